//! The contract's surface as text: every package, service, method, message, field and enum value.
//!
//! `proto/surface.lock` holds this text. A change of the contract is then a plain difference in review, and nothing
//! vanishes by accident.

use prost::{DecodeError, Message as _};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use std::fmt::Write as _;

/// The descriptor files of our own packages, in order of their names.
///
/// # Errors
/// When the embedded descriptor set does not decode.
pub fn own_files() -> Result<Vec<FileDescriptorProto>, DecodeError> {
    let set = FileDescriptorSet::decode(runnel_contracts::DESCRIPTORS)?;
    let mut files: Vec<_> =
        set.file.into_iter().filter(|file| file.package().starts_with("runnel.")).collect();
    files.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(files)
}

/// The surface of some files as text; one line for each thing that a client can name.
pub fn render(files: &[FileDescriptorProto]) -> String {
    let mut text = String::from(
        "# Every package, service, method, message, field and enum value of the contract.\n\
         # Written by: RUNNEL_BLESS=1 cargo test --release -p runnel-tidy\n",
    );
    for file in files {
        let _ = writeln!(text, "\npackage {} in {}", file.package(), file.name());
        for service in &file.service {
            render_service(&mut text, service);
        }
        for message in &file.message_type {
            render_message(&mut text, message, "");
        }
        for values in &file.enum_type {
            render_enum(&mut text, values, "");
        }
    }
    text
}

fn render_service(text: &mut String, service: &ServiceDescriptorProto) {
    let _ = writeln!(text, "  service {}", service.name());
    for method in &service.method {
        let stream = |streams: bool| if streams { "stream " } else { "" };
        let _ = writeln!(
            text,
            "    {}({}{}) returns ({}{})",
            method.name(),
            stream(method.client_streaming()),
            plain(method.input_type()),
            stream(method.server_streaming()),
            plain(method.output_type()),
        );
    }
}

fn render_message(text: &mut String, message: &DescriptorProto, outer: &str) {
    let name = format!("{outer}{}", message.name());
    let _ = writeln!(text, "  message {name}");
    let mut fields: Vec<_> = message.field.iter().collect();
    fields.sort_by_key(|field| field.number());
    for field in fields {
        let _ = write!(text, "    {} {} {}", field.number(), field.name(), type_of(field, message));
        // A lone optional field is wrapped in a group of its own by the compiler; that group is no part of the surface.
        if let (Some(group), false) = (field.oneof_index, field.proto3_optional()) {
            let group = usize::try_from(group).ok().and_then(|group| message.oneof_decl.get(group));
            let _ = write!(text, " oneof {}", group.map_or("?", |group| group.name()));
        }
        text.push('\n');
    }
    for range in &message.reserved_range {
        // The end is exclusive in descriptors of messages.
        let _ = writeln!(text, "    reserved {} to {}", range.start(), range.end() - 1);
    }
    for name in &message.reserved_name {
        let _ = writeln!(text, "    reserved \"{name}\"");
    }
    let outer = format!("{name}.");
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        render_message(text, nested, &outer);
    }
    for values in &message.enum_type {
        render_enum(text, values, &outer);
    }
}

fn render_enum(text: &mut String, values: &EnumDescriptorProto, outer: &str) {
    let _ = writeln!(text, "  enum {outer}{}", values.name());
    for value in &values.value {
        let _ = writeln!(text, "    {} {}", value.number(), value.name());
    }
    for range in &values.reserved_range {
        let _ = writeln!(text, "    reserved {} to {}", range.start(), range.end());
    }
    for name in &values.reserved_name {
        let _ = writeln!(text, "    reserved \"{name}\"");
    }
}

/// Whether a nested message is what the compiler makes of a map field.
pub fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn type_of(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested)
            && field
                .type_name()
                .strip_suffix(nested.name())
                .is_some_and(|rest| rest.ends_with(&format!("{}.", message.name())))
    });
    if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
        return format!("map<{}, {}>", scalar(key), scalar(value));
    }
    let label = match field.label() {
        Label::Repeated => "repeated ",
        Label::Required => "required ",
        Label::Optional if field.proto3_optional() => "optional ",
        Label::Optional => "",
    };
    format!("{label}{}", scalar(field))
}

fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => plain(field.type_name()).to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    }
}

/// A full name without its leading dot.
fn plain(name: &str) -> &str {
    name.trim_start_matches('.')
}

/// What a reader of a failed comparison needs: the lines that are gone and the lines that are new.
pub fn difference(locked: &str, current: &str) -> String {
    let (old, new) = (qualified(locked), qualified(current));
    let mut text = String::new();
    for (sign, lines, others) in [('-', &old, &new), ('+', &new, &old)] {
        for line in lines.iter().filter(|line| !others.contains(line)) {
            let _ = writeln!(text, "{sign} {line}");
        }
    }
    text
}

/// Each line behind the headings that it stands under.
fn qualified(text: &str) -> Vec<String> {
    let (mut package, mut holder) = ("", "");
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.len() - line.trim_start().len() {
            0 => (package, holder) = (line, ""),
            2 => holder = line,
            _ => {}
        }
        let own = if line == package || line == holder { "" } else { line };
        lines.push([package, holder, own].map(str::trim).join(" | ").trim_end_matches([' ', '|']).to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_maps_groups_and_optional_fields_are_seen() {
        let text = render(&own_files().unwrap());
        for line in [
            "    AppendStream(stream runnel.ingest.v1.AppendStreamRequest) returns (stream runnel.ingest.v1.AppendStreamResponse)",
            "    6 properties map<string, runnel.event.v1.Value>",
            "    1 string_value string oneof kind",
            "    3 time_ms optional int64",
            "  message AppendStreamRequest.Open",
            "    0 CONSENT_STATE_UNSPECIFIED",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
        }
        assert!(!text.contains("PropertiesEntry"), "map entries are no part of the surface");
    }

    #[test]
    fn a_difference_names_where_it_stands() {
        let locked = "package a in a.proto\n  message M\n    1 x string\n  message N\n    1 x string\n";
        let current = "package a in a.proto\n  message M\n    1 x int64\n  message N\n    1 x string\n";
        let shown = difference(locked, current);
        assert_eq!(
            shown,
            "- package a in a.proto | message M | 1 x string\n+ package a in a.proto | message M | 1 x int64\n"
        );
        assert_eq!(difference(locked, locked), "");
    }
}
