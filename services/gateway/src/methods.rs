//! The table of methods: what kind of key each needs and which service owns it. A method that is not here is refused.

use runnel_storage::KeyKind;

/// The services behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The ingest service.
    Ingest,
    /// The funnel service, with the catalogue.
    Funnel,
    /// The gateway's own control plane.
    Admin,
    /// Health.
    Health,
    /// Reflection, where it is switched on.
    Reflection,
}

/// What a method needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// A live key of this kind.
    Key(KeyKind),
}

const TABLE: [(&str, Owner, Needs); 19] = [
    ("/runnel.ingest.v1.IngestService/Append", Owner::Ingest, Needs::Key(KeyKind::Write)),
    ("/runnel.ingest.v1.IngestService/AppendStream", Owner::Ingest, Needs::Key(KeyKind::Write)),
    ("/runnel.ingest.v1.IngestService/GetIngestReport", Owner::Ingest, Needs::Key(KeyKind::Write)),
    ("/runnel.catalog.v1.CatalogService/ListEventNames", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.catalog.v1.CatalogService/ListProperties", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.funnel.v1.FunnelService/DefineFunnel", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.funnel.v1.FunnelService/GetFunnel", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.funnel.v1.FunnelService/ListFunnels", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.funnel.v1.FunnelService/DeleteFunnel", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.funnel.v1.FunnelService/QueryFunnel", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.funnel.v1.FunnelService/ExplainVisitor", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.funnel.v1.FunnelService/Verify", Owner::Funnel, Needs::Key(KeyKind::Read)),
    ("/runnel.admin.v1.AdminService/CreateTenant", Owner::Admin, Needs::Key(KeyKind::Admin)),
    ("/runnel.admin.v1.AdminService/ListTenants", Owner::Admin, Needs::Key(KeyKind::Admin)),
    ("/runnel.admin.v1.AdminService/CreateKey", Owner::Admin, Needs::Key(KeyKind::Admin)),
    ("/runnel.admin.v1.AdminService/ListKeys", Owner::Admin, Needs::Key(KeyKind::Admin)),
    ("/runnel.admin.v1.AdminService/RevokeKey", Owner::Admin, Needs::Key(KeyKind::Admin)),
    ("/grpc.health.v1.Health/Check", Owner::Health, Needs::Nothing),
    ("/grpc.health.v1.Health/Watch", Owner::Health, Needs::Nothing),
];

/// What a method needs and who owns it; `None` when there is no such method.
#[must_use]
pub fn find(path: &str) -> Option<(Owner, Needs)> {
    if path.starts_with("/grpc.reflection.v1.ServerReflection/")
        || path.starts_with("/grpc.reflection.v1alpha.ServerReflection/")
    {
        return Some((Owner::Reflection, Needs::Nothing));
    }
    TABLE.iter().find(|(known, ..)| *known == path).map(|(_, owner, needs)| (*owner, *needs))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn every_method_of_the_contract_is_in_the_table_and_nothing_else() {
        let set = prost_types::FileDescriptorSet::decode(runnel_contracts::DESCRIPTORS).unwrap();
        let mut paths: Vec<String> = Vec::new();
        for file in &set.file {
            for service in &file.service {
                paths.extend(
                    service
                        .method
                        .iter()
                        .map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())),
                );
            }
        }
        for path in &paths {
            assert!(find(path).is_some_and(|(_, needs)| needs != Needs::Nothing), "{path} is not classified");
        }
        let ours = TABLE.iter().filter(|(path, ..)| path.starts_with("/runnel.")).count();
        assert_eq!(ours, paths.len());
    }
}
