//! The table of methods: what kind of key each needs and which service owns it. A method that is not here is refused.

use runnel_storage::KeyKind;

/// The services behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The ingest service.
    Ingest,
    /// The funnel service, with the catalogue.
    Funnel,
    /// The segmentation service.
    Segmentation,
    /// Effects: an append between two looks at its visitors.
    Effects,
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
    /// A live key of the first kind, and beside it one of the second kind and the same tenant.
    Both(KeyKind, KeyKind),
}

/// What a call asks of the server. Each kind of load has a gate of its own, so that none starves another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Takes events.
    Append,
    /// Takes a few events, and counts the journeys that they are part of.
    Effects,
    /// Takes events for as long as the client likes.
    Stream,
    /// Counts journeys.
    Question,
    /// Reads or changes small things.
    Control,
    /// Asks whether somebody is there, without a key.
    Probe,
    /// Waits for changes for as long as the client likes, without a key.
    Watch,
    /// Is told changes for as long as the client likes.
    Follow,
}

/// Whether a call may be sent again by the gateway when its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing.
    Safe,
    /// It may have changed something. Who sent it knows whether to send it again.
    Never,
}

/// A method of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// As in the request's address.
    pub path: &'static str,
    /// Who answers it.
    pub owner: Owner,
    /// What it needs.
    pub needs: Needs,
    /// What it asks of the server.
    pub load: Load,
    /// Whether the gateway may repeat it.
    pub repeat: Repeat,
}

macro_rules! table {
    ($($package:literal { $($name:literal $owner:ident $needs:ident $load:ident $repeat:ident;)* })*) => {
        &[$($(Method {
            path: concat!("/", $package, "/", $name),
            owner: Owner::$owner,
            needs: needs!($needs),
            load: Load::$load,
            repeat: Repeat::$repeat,
        },)*)*]
    };
}

macro_rules! needs {
    (Nothing) => {
        Needs::Nothing
    };
    (WriteAndRead) => {
        Needs::Both(KeyKind::Write, KeyKind::Read)
    };
    ($kind:ident) => {
        Needs::Key(KeyKind::$kind)
    };
}

/// Method, owner, kind of key, load, and whether the gateway may repeat it.
const TABLE: &[Method] = table! {
    "runnel.ingest.v1.IngestService" {
        "Append" Ingest Write Append Never;
        "AppendStream" Ingest Write Stream Never;
        "GetIngestReport" Ingest Write Question Safe;
    }
    "runnel.identity.v1.IdentityService" {
        "Identify" Ingest Write Control Never;
        "Merge" Ingest Admin Control Never;
        "GetIdentity" Ingest Read Control Safe;
    }
    "runnel.subject.v1.SubjectService" {
        "Erase" Ingest Erase Control Never;
        "GetErasure" Ingest Erase Control Safe;
        "ExportSubject" Ingest Erase Question Never;
    }
    "runnel.catalog.v1.CatalogService" {
        "ListEventNames" Funnel Read Question Safe;
        "ListProperties" Funnel Read Question Safe;
        "DefineConversion" Funnel Read Control Never;
        "GetConversion" Funnel Read Control Safe;
        "ListConversions" Funnel Read Control Safe;
        "DeleteConversion" Funnel Read Control Never;
        "PreviewConversion" Funnel Read Question Safe;
        "GetCatalog" Funnel Read Control Safe;
        "ApplyCatalog" Funnel Read Control Never;
        "FitTemplate" Funnel Read Question Safe;
        "PutDailyCounts" Funnel Read Control Never;
        "ListDailyCounts" Funnel Read Control Safe;
    }
    "runnel.insight.v1.InsightService" {
        "QueryConversions" Funnel Read Question Safe;
        "QuerySessions" Funnel Read Question Safe;
        "QueryPages" Funnel Read Question Safe;
        "QueryTrend" Funnel Read Question Safe;
        "QueryRetention" Funnel Read Question Safe;
        "QueryFrequency" Funnel Read Question Safe;
        "QueryMicroToMacro" Funnel Read Question Safe;
        "ListRestatements" Funnel Read Question Safe;
    }
    "runnel.funnel.v1.FunnelService" {
        "DefineFunnel" Funnel Read Control Never;
        "GetFunnel" Funnel Read Control Safe;
        "ListFunnels" Funnel Read Control Safe;
        "DeleteFunnel" Funnel Read Control Never;
        "QueryFunnel" Funnel Read Question Safe;
        "ExplainVisitor" Funnel Read Question Safe;
        "Verify" Funnel Read Question Safe;
    }
    "runnel.segmentation.v1.SegmentationService" {
        "DefineSegment" Segmentation Read Control Never;
        "GetSegment" Segmentation Read Control Safe;
        "DeleteSegment" Segmentation Read Control Never;
        "CountSegment" Segmentation Read Question Safe;
        "PreviewSegment" Segmentation Read Question Safe;
        "ListMembers" Segmentation Read Question Safe;
        "StreamMembers" Segmentation Read Question Never;
        "WasMember" Segmentation Read Question Safe;
        "GetVisitor" Segmentation Read Question Safe;
        "ListTimeline" Segmentation Read Question Safe;
        "ListSegments" Segmentation Read Control Safe;
        "WatchSegment" Segmentation Read Follow Never;
        "WatchFunnel" Segmentation Read Follow Never;
        "CountOpenSessions" Segmentation Read Question Safe;
    }
    "runnel.audience.v1.AudienceService" {
        "ExportAudience" Segmentation Read Question Never;
        "ExportConversions" Segmentation Read Question Never;
    }
    "runnel.list.v1.ListService" {
        "PutMembers" Segmentation Read Control Never;
        "RemoveMembers" Segmentation Read Control Never;
        "DeleteList" Segmentation Read Control Never;
        "ListLists" Segmentation Read Control Safe;
        "ListListMembers" Segmentation Read Control Safe;
    }
    "runnel.effect.v1.EffectService" { "Append" Effects WriteAndRead Effects Never; }
    "runnel.admin.v1.AdminService" {
        "CreateTenant" Admin Admin Control Never;
        "ListTenants" Admin Admin Control Safe;
        "SetRetention" Admin Admin Control Never;
        "GetRetention" Admin Admin Control Safe;
        "CreateKey" Admin Admin Control Never;
        "ListKeys" Admin Admin Control Safe;
        "RevokeKey" Admin Admin Control Never;
    }
    "grpc.health.v1.Health" {
        "Check" Health Nothing Probe Safe;
        "Watch" Health Nothing Watch Never;
    }
    // Both versions of reflection are absent unless they are switched on.
    "grpc.reflection.v1.ServerReflection" { "ServerReflectionInfo" Reflection Nothing Watch Never; }
    "grpc.reflection.v1alpha.ServerReflection" { "ServerReflectionInfo" Reflection Nothing Watch Never; }
};

/// A method, or `None` when there is no such method.
#[must_use]
pub fn find(path: &str) -> Option<&'static Method> {
    TABLE.iter().find(|method| method.path == path)
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
            assert!(
                find(path).is_some_and(|method| method.needs != Needs::Nothing),
                "{path} is not classified"
            );
        }
        let ours = TABLE.iter().filter(|method| method.path.starts_with("/runnel.")).count();
        assert_eq!(ours, paths.len());
    }
}
