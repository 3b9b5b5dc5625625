//! How many elements a message would become when it is decoded, found by walking over its bytes: a few bytes on the wire can be a hundred times as many in
//! memory, and only the number of elements tells.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

use crate::{
    DESCRIPTORS,
    protobuf::{Fields, Malformed, Wire},
};

/// Deepest nesting that is walked. No message of the contract is as deep.
const DEEPEST: usize = 48;

/// Why a message is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeighError {
    /// The bytes are no such message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// More elements than allowed.
    #[error("the message has more elements than allowed")]
    TooMany,
}

/// The messages of the contract: for each the fields that are messages themselves.
#[derive(Debug)]
struct Shapes {
    /// By number, fields that are messages, and which.
    fields: Vec<HashMap<u32, usize>>,
    /// The message that a method takes, by the method's path.
    methods: HashMap<String, usize>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let (mut messages, mut names) = (Vec::new(), HashMap::new());
    for file in &set.file {
        let mut waiting: Vec<_> =
            file.message_type.iter().map(|message| (format!(".{}", file.package()), message)).collect();
        while let Some((scope, message)) = waiting.pop() {
            let name = format!("{scope}.{}", message.name());
            names.insert(name.clone(), messages.len());
            messages.push(message);
            waiting.extend(message.nested_type.iter().map(|nested| (name.clone(), nested)));
        }
    }
    let fields = messages.iter().map(|message| {
        let inner = message.field.iter().filter(|field| field.r#type() == Type::Message);
        inner
            .filter_map(|field| Some((u32::try_from(field.number()).ok()?, *names.get(field.type_name())?)))
            .collect()
    });
    let mut methods = HashMap::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.extend(names.get(method.input_type()).map(|input| (path, *input)));
            }
        }
    }
    Shapes { fields: fields.collect(), methods }
});

/// The elements of the request of a method: every field of every message in it. Stops as soon as there are more than `most`. Of a method that is not in the
/// contract only the outermost fields are counted.
pub fn elements(path: &str, message: &[u8], most: usize) -> Result<usize, WeighError> {
    let mut count = 0;
    walk(SHAPES.methods.get(path).copied(), message, most, DEEPEST, &mut count)?;
    Ok(count)
}

fn walk(
    shape: Option<usize>,
    message: &[u8],
    most: usize,
    deeper: usize,
    count: &mut usize,
) -> Result<(), WeighError> {
    let inner = shape.and_then(|shape| SHAPES.fields.get(shape));
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next_field()? {
        *count += 1;
        if *count > most {
            return Err(WeighError::TooMany);
        }
        if let (Wire::Bytes(bytes), Some(shape)) = (value, inner.and_then(|inner| inner.get(&number))) {
            let deeper = deeper.checked_sub(1).ok_or(Malformed)?;
            walk(Some(*shape), bytes, most, deeper, count)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::funnel::v1::{
        FunnelDefinition, QueryFunnelRequest, Step, query_funnel_request::Funnel,
    };

    const PATH: &str = "/runnel.funnel.v1.FunnelService/QueryFunnel";

    #[test]
    fn elements_are_counted_wherever_they_are() {
        let definition =
            FunnelDefinition { steps: vec![Step::default(); 1_000], ..FunnelDefinition::default() };
        let asked = QueryFunnelRequest { funnel: Some(Funnel::Inline(definition)), ..Default::default() };
        let bytes = asked.encode_to_vec();
        assert!(bytes.len() < 2_100, "a bomb is small: {}", bytes.len());
        assert_eq!(elements(PATH, &bytes, 10_000), Ok(1_001));
        assert_eq!(elements(PATH, &bytes, 1_000), Err(WeighError::TooMany));
        assert_eq!(elements("/some.Other/Method", &bytes, 10), Ok(1));
        assert_eq!(elements(PATH, &[0x0a, 9], 10), Err(WeighError::Malformed(Malformed)));
        for path in SHAPES.methods.keys() {
            assert_eq!(elements(path, &[], 0), Ok(0));
        }
        assert!(SHAPES.methods.len() >= 17);
    }
}
