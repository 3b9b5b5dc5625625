//! The contract between services and with clients: code generated from `proto/`, conversion between wire and model, and the closed list of refusals.

pub mod conversion;
pub mod event;
pub mod frame;
pub mod protobuf;
pub mod question;
pub mod receive;
pub mod refusal;
pub mod weigh;

/// Generated messages and services, one module a proto package.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the documentation is in the proto files"
)]
pub mod proto {
    pub mod event {
        pub mod v1 {
            tonic::include_proto!("runnel.event.v1");
        }
    }
    pub mod query {
        pub mod v1 {
            tonic::include_proto!("runnel.query.v1");
        }
    }
    pub mod ingest {
        pub mod v1 {
            tonic::include_proto!("runnel.ingest.v1");
        }
    }
    pub mod identity {
        pub mod v1 {
            tonic::include_proto!("runnel.identity.v1");
        }
    }
    pub mod subject {
        pub mod v1 {
            tonic::include_proto!("runnel.subject.v1");
        }
    }
    pub mod catalog {
        pub mod v1 {
            tonic::include_proto!("runnel.catalog.v1");
        }
    }
    pub mod funnel {
        pub mod v1 {
            tonic::include_proto!("runnel.funnel.v1");
        }
    }
    pub mod insight {
        pub mod v1 {
            tonic::include_proto!("runnel.insight.v1");
        }
    }
    pub mod segmentation {
        pub mod v1 {
            tonic::include_proto!("runnel.segmentation.v1");
        }
    }
    pub mod audience {
        pub mod v1 {
            tonic::include_proto!("runnel.audience.v1");
        }
    }
    pub mod list {
        pub mod v1 {
            tonic::include_proto!("runnel.list.v1");
        }
    }
    pub mod effect {
        pub mod v1 {
            tonic::include_proto!("runnel.effect.v1");
        }
    }
    pub mod admin {
        pub mod v1 {
            tonic::include_proto!("runnel.admin.v1");
        }
    }
    pub mod aggregate {
        pub mod v1 {
            tonic::include_proto!("runnel.aggregate.v1");
        }
    }
    pub mod journal {
        pub mod v1 {
            tonic::include_proto!("runnel.journal.v1");
        }
    }
}

/// The ingest service with requests that stay undecoded.
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod frames {
    include!(concat!(env!("OUT_DIR"), "/runnel.ingest.v1.IngestService.rs"));
}

/// The encoded descriptor set of every package, with comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
