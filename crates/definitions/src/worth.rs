//! What conversions are worth, read from journeys.

use std::{collections::BTreeMap, ops::RangeInclusive};

use runnel_journeys::{Loaded, Run, View};
use runnel_kernel::{Amounts, Values};
use runnel_model::{CurrencyOf, Selector, Worth};

/// What a conversion is worth, with columns as places.
#[derive(Debug)]
pub struct Priced {
    worth: Worth,
    /// By code of the amount; empty where the worth does not depend on the event.
    micros: Vec<i64>,
    amount: usize,
    currency: Option<usize>,
}

impl Priced {
    /// Finds the columns of a worth among those that are loaded.
    #[must_use]
    pub fn new(worth: &Worth, loaded: &Loaded) -> Priced {
        let (amount, currency) = worth.columns();
        let place = |selector: Selector| loaded.column(&selector).unwrap_or(usize::MAX);
        let per_unit = if *worth == Worth::OfEvent { 1 } else { 1_000_000 };
        let amount = amount.map_or(usize::MAX, place);
        let micros = loaded.columns.get(amount).map(|(_, dictionary)| dictionary.micros(per_unit));
        Priced {
            worth: worth.clone(),
            micros: micros.unwrap_or_default(),
            amount,
            currency: currency.map(place),
        }
    }

    /// What each event is worth; `None` if that does not depend on the event.
    #[must_use]
    pub fn amounts<'a>(&'a self, view: &'a View<'_>) -> Option<Amounts<'a>> {
        let nowhere = Values::U8(&[]);
        (!self.micros.is_empty()).then(|| Amounts {
            micros: &self.micros,
            codes: view.codes(self.amount),
            currencies: self.currency.map_or(nowhere, |column| view.codes(column)),
        })
    }

    /// Millionths by currency of so many happenings, from sums by the code of the currency.
    #[must_use]
    pub fn by_currency(
        &self,
        loaded: &Loaded,
        events: u64,
        sums: &BTreeMap<u32, i128>,
    ) -> BTreeMap<String, i128> {
        let mut by_currency: BTreeMap<String, i128> = BTreeMap::new();
        match &self.worth {
            Worth::Fixed { micros, currency } => {
                by_currency.insert(currency.clone(), i128::from(*micros) * i128::from(events));
            }
            Worth::OfProperty { currency: CurrencyOf::Fixed(currency), .. } => {
                sums.values().for_each(|sum| *by_currency.entry(currency.clone()).or_default() += sum);
            }
            Worth::OfEvent | Worth::OfProperty { .. } => {
                for (code, sum) in sums {
                    *by_currency.entry(self.named(loaded, *code)).or_default() += sum;
                }
            }
        }
        by_currency
    }

    /// Currency and millionths of the happening at one event of a run; `None` when it says nothing of what it is worth, or nobody knows in which currency.
    #[must_use]
    pub fn of_event(&self, loaded: &Loaded, run: &Run, event: usize) -> Option<(String, i64)> {
        let code = |column: usize| run.columns.get(column)?.values().get(event).filter(|code| *code != 0);
        let (currency, micros) = match &self.worth {
            Worth::Fixed { micros, currency } => (currency.clone(), *micros),
            Worth::OfEvent | Worth::OfProperty { .. } => {
                let micros = *self.micros.get(code(self.amount)? as usize)?;
                let currency = match &self.worth {
                    Worth::OfProperty { currency: CurrencyOf::Fixed(currency), .. } => currency.clone(),
                    _ => self.named(loaded, code(self.currency?)?),
                };
                (currency, micros)
            }
        };
        (!currency.is_empty()).then_some((currency, micros))
    }

    /// Currency and millionths of a visitor's latest event in a range of milliseconds that says what it is worth.
    #[must_use]
    pub fn latest(
        &self,
        loaded: &Loaded,
        (run, visitor): (&Run, usize),
        range_ms: &RangeInclusive<i64>,
    ) -> Option<(String, i64)> {
        let events = run.range(visitor).rev().filter(|event| range_ms.contains(&run.time(*event)));
        events.filter_map(|event| self.of_event(loaded, run, event)).next()
    }

    /// The currency behind a code; empty where there is none.
    fn named(&self, loaded: &Loaded, code: u32) -> String {
        let column = self.currency.and_then(|column| loaded.columns.get(column));
        column
            .and_then(|(_, dictionary)| dictionary.value(code))
            .map(|value| value.show())
            .unwrap_or_default()
    }
}
