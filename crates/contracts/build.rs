//! Generates the Rust side of the contract from `proto/` without protoc, and embeds the descriptor set.

use std::{env, error::Error, fs, path::PathBuf};

use tonic_build::manual::{Builder, Method, Service};

const FILES: [&str; 17] = [
    "runnel/event/v1/event.proto",
    "runnel/query/v1/query.proto",
    "runnel/ingest/v1/ingest.proto",
    "runnel/identity/v1/identity.proto",
    "runnel/subject/v1/subject.proto",
    "runnel/catalog/v1/catalog.proto",
    "runnel/funnel/v1/funnel.proto",
    "runnel/insight/v1/insight.proto",
    "runnel/segmentation/v1/segment.proto",
    "runnel/segmentation/v1/visitor.proto",
    "runnel/segmentation/v1/segmentation.proto",
    "runnel/audience/v1/audience.proto",
    "runnel/list/v1/list.proto",
    "runnel/effect/v1/effect.proto",
    "runnel/admin/v1/admin.proto",
    "runnel/journal/v1/journal.proto",
    "runnel/aggregate/v1/aggregate.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".runnel.journal.v1")
        .boxed(".runnel.segmentation.v1.Condition.node.reached")
        .compile_fds(compiler.file_descriptor_set())?;
    Builder::new().build_client(false).build_transport(false).compile(&[ingest()]);
    Ok(())
}

/// The ingest service once more, with requests that stay undecoded: ingest walks over their bytes straight into columns.
fn ingest() -> Service {
    let method = |name: &str, route: &str, answer: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::frame::Frame")
            .output_type(format!("crate::proto::ingest::v1::{answer}"))
            .codec_path(format!("crate::frame::FrameIn::<crate::proto::ingest::v1::{answer}>"))
    };
    Service::builder()
        .name("IngestService")
        .package("runnel.ingest.v1")
        .comment("Accepts events; requests are frames.")
        .method(method("append", "Append", "AppendResponse").build())
        .method(
            method("append_stream", "AppendStream", "AppendStreamResponse")
                .client_streaming()
                .server_streaming()
                .build(),
        )
        .method(method("get_ingest_report", "GetIngestReport", "GetIngestReportResponse").build())
        .build()
}
