//! Batches of the simulated shop, as a sender would make them: in the order of arrival.

use std::fmt::Write as _;

use runnel_model::{EventBatch, EventRef, ValueRef};
use runnel_simulate::{Config, Shop, Value};

/// All deliveries of a shop in batches of `size` events.
pub(crate) fn batches(seed: u64, visitors: u64, size: usize, mut each: impl FnMut(EventBatch)) {
    let shop = Shop::new(Config::shop(seed, visitors)).unwrap();
    let mut batch = EventBatch::default();
    let mut texts: [String; 8] = Default::default();
    for delivery in shop.deliveries() {
        let event = delivery.event;
        let [visitor, id, values @ ..] = &mut texts;
        for text in [&mut *visitor, &mut *id].into_iter().chain(values.iter_mut()) {
            text.clear();
        }
        write!(visitor, "{}", event.visitor).unwrap();
        write!(id, "{}", event.event_id()).unwrap();
        let properties = event.properties();
        let mut refs = [("", ValueRef::Bool(false)); 5];
        for (at, ((property, value), text)) in properties.iter().zip(values).enumerate() {
            let value = match *value {
                Value::Int(number) => ValueRef::Int(number),
                Value::Float(number) => ValueRef::Double(number),
                Value::Cents(cents) => ValueRef::Double(f64::from(cents) / 100.0),
                Value::Bool(truth) => ValueRef::Bool(truth),
                other => {
                    write!(text, "{other}").unwrap();
                    ValueRef::String(text)
                }
            };
            refs[at] = (property.as_str(), value);
        }
        batch.push(&EventRef {
            visitor,
            time_ms: event.time_ms,
            name: event.name.as_str(),
            event_id: id,
            sequence: event.sequence().map_or(0, i64::from),
            fields: &[],
            properties: &refs,
        });
        if batch.len() == size {
            each(std::mem::take(&mut batch));
        }
    }
    if !batch.is_empty() {
        each(batch);
    }
}
