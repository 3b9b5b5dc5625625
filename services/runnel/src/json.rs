//! Messages as JSON by protobuf's own mapping: 64-bit numbers are strings, fields keep their lower-camel names, defaults are written out.

use std::sync::LazyLock;

use anyhow::Context;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(runnel_contracts::DESCRIPTORS).ok());

fn descriptor(name: &str) -> anyhow::Result<prost_reflect::MessageDescriptor> {
    let pool = POOL.as_ref().context("the embedded descriptors cannot be read")?;
    pool.get_message_by_name(name).with_context(|| format!("the contract has no message {name}"))
}

/// A message as JSON, indented.
pub(crate) fn to_json<M: Message>(name: &str, message: &M) -> anyhow::Result<String> {
    written(name, message, &SerializeOptions::new().skip_default_fields(false))
}

/// A message as JSON, indented, without the fields that have their defaults: a file that people read and change.
pub(crate) fn to_short_json<M: Message>(name: &str, message: &M) -> anyhow::Result<String> {
    written(name, message, &SerializeOptions::new())
}

/// A message as JSON on one line, without the fields that have their defaults.
pub(crate) fn to_line<M: Message>(name: &str, message: &M) -> anyhow::Result<String> {
    Ok(serde_json::to_string(&DynamicMessage::decode(
        descriptor(name)?,
        message.encode_to_vec().as_slice(),
    )?)?)
}

fn written<M: Message>(name: &str, message: &M, options: &SerializeOptions) -> anyhow::Result<String> {
    let dynamic = DynamicMessage::decode(descriptor(name)?, message.encode_to_vec().as_slice())?;
    let mut serializer = serde_json::Serializer::pretty(Vec::new());
    dynamic.serialize_with_options(&mut serializer, options)?;
    Ok(String::from_utf8(serializer.into_inner())?)
}

/// A message from JSON. Unknown fields are refused.
pub(crate) fn from_json<M: Message + Default>(name: &str, text: &str) -> anyhow::Result<M> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let dynamic = DynamicMessage::deserialize(descriptor(name)?, &mut deserializer)?;
    deserializer.end()?;
    Ok(M::decode(dynamic.encode_to_vec().as_slice())?)
}
