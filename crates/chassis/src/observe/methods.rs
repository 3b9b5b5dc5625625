//! The methods that calls are told apart by. Whatever else a path says counts as one: a stranger must not be able to make new labels.

use std::{collections::HashSet, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// What paths outside the contract are called.
const OTHER: &str = "other";
/// Methods that are answered beside the contract's.
const BESIDE: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Paths of all methods.
static PATHS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(runnel_contracts::DESCRIPTORS).unwrap_or_default();
    let services = set.file.iter().flat_map(|file| file.service.iter().map(move |service| (file, service)));
    let contract = services.flat_map(|(file, service)| {
        let methods = service.method.iter();
        methods.map(move |method| format!("/{}.{}/{}", file.package(), service.name(), method.name()))
    });
    contract.chain(BESIDE.map(str::to_owned)).collect()
});

/// `runnel.ingest.v1.IngestService/Append` for its path; `other` for a path that is none of ours.
pub(super) fn name(path: &str) -> &'static str {
    PATHS.get(path).map_or(OTHER, |known| known.trim_start_matches('/'))
}

/// Service and method of a name.
pub(super) fn parts(name: &'static str) -> (&'static str, &'static str) {
    name.split_once('/').unwrap_or((name, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_of_the_contract_have_a_name() {
        for (path, named) in [
            ("/runnel.ingest.v1.IngestService/Append", "runnel.ingest.v1.IngestService/Append"),
            ("/grpc.health.v1.Health/Watch", "grpc.health.v1.Health/Watch"),
            ("/runnel.ingest.v1.IngestService/Appends", OTHER),
            ("/v-17", OTHER),
            ("", OTHER),
        ] {
            assert_eq!(name(path), named, "{path}");
        }
        assert_eq!(parts("a.B/C"), ("a.B", "C"));
        assert!(PATHS.len() > 20);
    }
}
