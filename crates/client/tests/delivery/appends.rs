//! One batch at a time.

use std::time::Duration;

use runnel_client::{
    AppendError, Client,
    proto::{
        event::v1::Event,
        ingest::v1::{GetIngestReportRequest, ingest_service_server::IngestServiceServer},
    },
};
use runnel_contracts::refusal::Reason;
use tonic::Code;

use crate::fake::{Act, Fake};

fn events(ids: &[&str]) -> Vec<Event> {
    let event = |id: &&str| Event {
        event_id: (*id).into(),
        visitor_id: "v".into(),
        time_ms: Some(1),
        ..Default::default()
    };
    ids.iter().map(event).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_sent_again_with_the_same_id_until_it_is_answered() {
    let fake = Fake::with([
        Act::Fail(Code::Unavailable),
        Act::Fail(Code::Unknown),
        Act::LoseAnswer(Code::Cancelled),
        Act::LoseAnswer(Code::DeadlineExceeded),
        Act::Slow(Duration::from_secs(3_600)),
    ]);
    let appended = fake.client().append(events(&["a", "b"]), None).await.unwrap();
    assert_eq!((appended.attempts, appended.response.accepted, appended.response.repeated), (6, 2, true));
    assert!(!appended.stored_before(), "it was this very call that stored it");
    fake.assert_stored_once(["a", "b"]);
    let stored = fake.stored.lock().unwrap();
    assert!(stored.calls.iter().all(|id| *id == stored.calls[0] && !id.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_later_call_with_the_same_id_stores_nothing() {
    let fake = Fake::default();
    let client = fake.client();
    let first = client.append(events(&["a"]), Some("import-7".into())).await.unwrap();
    let second = client.append(events(&["a"]), Some("import-7".into())).await.unwrap();
    assert!(!first.stored_before() && second.stored_before());
    fake.assert_stored_once(["a"]);
    let other = client.append(events(&["b"]), Some("import-7".into())).await.unwrap_err();
    assert_eq!(other.refusal().known(), Some(Reason::RequestReused));
}

#[tokio::test(start_paused = true)]
async fn full_servers_are_given_the_time_they_ask_for() {
    let wait = Duration::from_secs(7);
    let fake = Fake::with([
        Act::Refuse(Reason::BacklogFull, Some(wait)),
        Act::Refuse(Reason::BacklogFull, Some(wait)),
    ]);
    fake.client().append(events(&["a"]), None).await.unwrap();
    let times = fake.stored.lock().unwrap().times.clone();
    assert_eq!(times.len(), 3);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= wait));
}

#[tokio::test(start_paused = true)]
async fn refusals_are_final_and_typed() {
    let fake = Fake::with([
        Act::Refuse(Reason::BatchTooLong, None),
        Act::Refuse(Reason::StoreFull, None),
        Act::Refuse(Reason::Internal, None),
    ]);
    let client = fake.client();
    for (reason, code) in [
        (Reason::BatchTooLong, Code::InvalidArgument),
        (Reason::StoreFull, Code::ResourceExhausted),
        (Reason::Internal, Code::Internal),
    ] {
        let Err(AppendError::Refused(refusal)) = client.append(events(&["a"]), None).await else {
            panic!("{reason:?}")
        };
        assert_eq!((refusal.code, refusal.known()), (code, Some(reason)));
        assert_eq!(refusal.violations[0].field, "events");
        assert!(refusal.message.starts_with("By script."));
    }
    assert_eq!(fake.stored.lock().unwrap().calls.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let fake = Fake::with(vec![Act::Fail(Code::Unavailable); 10_000]);
    let started = tokio::time::Instant::now();
    let Err(AppendError::Unanswered { attempts, last }) = fake.client().append(events(&["a"]), None).await
    else {
        panic!("answered")
    };
    assert!(started.elapsed() <= Duration::from_secs(120));
    assert!((20..100).contains(&attempts), "{attempts}");
    assert_eq!((last.code, last.reason.as_str()), (Code::Unavailable, ""));
}

#[tokio::test]
async fn the_key_is_on_every_call() {
    let fake = Fake::default();
    let other = Client::over(IngestServiceServer::new(fake.clone()), "rk_write_other").unwrap();
    let refused = other.append(events(&["a"]), None).await.unwrap_err();
    assert_eq!(refused.refusal().known(), Some(Reason::KeyMissing));
    let client = fake.client();
    client.append(events(&["a"]), None).await.unwrap();
    let report = client.ingest().get_ingest_report(GetIngestReportRequest::default()).await.unwrap();
    assert_eq!(report.into_inner().counted, 1);
}

#[tokio::test]
async fn a_network_channel_survives_a_server_that_goes_away() {
    let fake = Fake::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = |listener| {
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(IngestServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(incoming))
    };
    let server = serve(listener);
    let client = Client::connect(&address.to_string(), "rk_write_test").await.unwrap();
    client.append(events(&["a"]), None).await.unwrap();
    server.abort();
    let _ = server.await;
    let waiting = tokio::spawn(client.append(events(&["b"]), None));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let again = serve(socket.listen(16).unwrap());
    assert_eq!(waiting.await.unwrap().unwrap().response.accepted, 1);
    fake.assert_stored_once(["a", "b"]);
    again.abort();
    assert!(Client::connect("127.0.0.1:1", "rk_write_test").await.is_err());
}
