//! What a gRPC server costs that does less: it only receives, walks over the wire, decodes into columns, or decodes with prost.

use std::{pin::Pin, process::Stdio};

use prost::Message;
use runnel_chassis::{Upstream, serve};
use runnel_client::proto::ingest::v1::{
    AppendRequest, AppendResponse, AppendStreamResponse, GetIngestReportResponse,
};
use runnel_contracts::{
    frame::Frame,
    frames::ingest_service_server::{IngestService, IngestServiceServer},
    protobuf::count_elements,
    receive::{Terms, receive_append},
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::walk::walk;

/// The servers, from the least work to the most.
pub(crate) const KINDS: [(&str, &str); 4] = [
    ("receive", "receives only"),
    ("walk", "walks over every field of every event"),
    ("columns", "decodes into columns, every event checked"),
    ("prost", "decodes with prost into messages"),
];

#[derive(Clone)]
struct Server(String);

/// Serves on a free port until the process is killed.
pub(crate) async fn run(kind: String) {
    let listener = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    let service = IngestServiceServer::new(Server(kind)).max_decoding_message_size(4 << 20);
    serve::serve(listener, Upstream::new(service), serve::ServeOptions::default(), std::future::pending())
        .await
        .unwrap();
}

/// Starts such a server in a process of its own. Its address.
pub(crate) fn start(kind: &str) -> (std::process::Child, String) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--server", kind])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    (child, line.trim().to_owned())
}

#[tonic::async_trait]
impl IngestService for Server {
    type AppendStreamStream = Pin<Box<dyn Stream<Item = Result<AppendStreamResponse, Status>> + Send>>;

    async fn append(&self, request: Request<Frame>) -> Result<Response<AppendResponse>, Status> {
        let Frame(message) = request.into_inner();
        let accepted = match self.0.as_str() {
            "receive" => message.len() as u64,
            "walk" => count_elements(&message, 2).unwrap() as u64 + walk(&message, 2),
            "columns" => {
                receive_append(&message, i64::MAX / 2, &Terms::default()).unwrap().batch.len() as u64
            }
            _ => AppendRequest::decode(message).unwrap().events.len() as u64,
        };
        Ok(Response::new(AppendResponse { accepted: accepted as u32, ..AppendResponse::default() }))
    }

    async fn append_stream(
        &self,
        _: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        Err(Status::unimplemented("only Append"))
    }

    async fn get_ingest_report(
        &self,
        _: Request<Frame>,
    ) -> Result<Response<GetIngestReportResponse>, Status> {
        Err(Status::unimplemented("only Append"))
    }
}
