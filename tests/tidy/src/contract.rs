//! How the contract is written: where a package lies, what a method takes and gives, and that everything is explained.

use crate::surface::is_map_entry;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};
use std::collections::BTreeSet;

// Field numbers of descriptor.proto, which make up the paths of its source locations.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUM: i32 = 4;
const ENUM_VALUE: i32 = 2;
const SERVICE_METHOD: i32 = 2;

/// Faults of the contract's files. `on_disk` are the paths of all proto files, relative to `proto/`.
pub fn faults(files: &[FileDescriptorProto], on_disk: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let compiled: BTreeSet<&str> = files.iter().map(FileDescriptorProto::name).collect();
    for path in on_disk.iter().filter(|path| !compiled.contains(path.as_str())) {
        faults.push(format!("proto/{path}: is not part of the build"));
    }
    for file in files {
        let folder = file.name().rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.replace('/', ".") != file.package() {
            faults.push(format!("proto/{}: package {} is not its folder", file.name(), file.package()));
        }
        let last = file.package().rsplit('.').next().unwrap_or_default();
        if last.strip_prefix('v').is_none_or(|digits| digits.parse::<u32>().is_err()) {
            faults.push(format!(
                "proto/{}: package {} does not end in a version",
                file.name(),
                file.package()
            ));
        }
        File::new(file).check(&mut faults);
    }
    faults
}

/// A file with the places that carry a comment.
struct File<'a> {
    file: &'a FileDescriptorProto,
    explained: BTreeSet<&'a [i32]>,
}

impl<'a> File<'a> {
    fn new(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let explained = locations
            .filter(|location| !location.leading_comments().trim().is_empty())
            .map(|location| location.path.as_slice())
            .collect();
        Self { file, explained }
    }

    fn check(&self, faults: &mut Vec<String>) {
        for (at, service) in (0..).zip(&self.file.service) {
            self.explain(&[FILE_SERVICE, at], service.name(), faults);
            for (number, method) in (0..).zip(&service.method) {
                let name = format!("{}.{}", service.name(), method.name());
                self.explain(&[FILE_SERVICE, at, SERVICE_METHOD, number], &name, faults);
                for (kind, ending) in [(method.input_type(), "Request"), (method.output_type(), "Response")] {
                    let wanted = format!(".{}.{}{ending}", self.file.package(), method.name());
                    if kind != wanted {
                        faults.push(format!("{}: {name} names {kind}, not {wanted}", self.file.name()));
                    }
                }
            }
        }
        for (at, message) in (0..).zip(&self.file.message_type) {
            self.check_message(&mut vec![FILE_MESSAGE, at], message.name(), message, faults);
        }
        for (at, values) in (0..).zip(&self.file.enum_type) {
            self.check_enum(&mut vec![FILE_ENUM, at], values, faults);
        }
    }

    fn check_message(
        &self,
        path: &mut Vec<i32>,
        name: &str,
        message: &DescriptorProto,
        faults: &mut Vec<String>,
    ) {
        self.explain(path, name, faults);
        let depth = path.len();
        for (at, field) in (0..).zip(&message.field) {
            path.extend([MESSAGE_FIELD, at]);
            self.explain(path, &format!("{name}.{}", field.name()), faults);
            path.truncate(depth);
        }
        for (at, nested) in (0..).zip(&message.nested_type).filter(|(_, nested)| !is_map_entry(nested)) {
            path.extend([MESSAGE_NESTED, at]);
            self.check_message(path, &format!("{name}.{}", nested.name()), nested, faults);
            path.truncate(depth);
        }
        for (at, values) in (0..).zip(&message.enum_type) {
            path.extend([MESSAGE_ENUM, at]);
            self.check_enum(path, values, faults);
            path.truncate(depth);
        }
    }

    fn check_enum(&self, path: &mut Vec<i32>, values: &EnumDescriptorProto, faults: &mut Vec<String>) {
        self.explain(path, values.name(), faults);
        let zero = values.value.first().filter(|first| first.number() == 0);
        if !zero.is_some_and(|first| first.name().ends_with("_UNSPECIFIED")) {
            faults.push(format!("{}: {} has no zero …_UNSPECIFIED", self.file.name(), values.name()));
        }
        let depth = path.len();
        for (at, value) in (0..).zip(&values.value) {
            path.extend([ENUM_VALUE, at]);
            self.explain(path, value.name(), faults);
            path.truncate(depth);
        }
    }

    fn explain(&self, path: &[i32], name: &str, faults: &mut Vec<String>) {
        if !self.explained.contains(path) {
            faults.push(format!("{}: {name} has no comment above it", self.file.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surface::own_files;

    #[test]
    fn planted_faults_are_found() {
        let mut files = own_files().unwrap();
        let before = faults(&files, &[]).len();
        let ingest = files.iter_mut().find(|file| file.package() == "runnel.ingest.v1").unwrap();
        ingest.service[0].method[0].output_type = Some(".runnel.ingest.v1.Ack".into());
        ingest.enum_type[0].value[0].name = Some("NONE".into());
        ingest
            .source_code_info
            .as_mut()
            .unwrap()
            .location
            .retain(|location| location.path != [FILE_MESSAGE, 0]);
        assert_eq!(faults(&files, &[]).len(), before + 3);
        assert_eq!(faults(&files, &["runnel/lost/v1/lost.proto".into()]).len(), before + 4);
    }
}
