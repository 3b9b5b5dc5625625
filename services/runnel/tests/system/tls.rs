//! TLS between services: only the gateway that the certificate names comes in, and renewed certificates are taken while serving.

use std::{path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use runnel_client::{
    Client,
    proto::{
        admin::v1::{CreateKeyRequest, CreateTenantRequest, KeyKind},
        event::v1::Event,
    },
};
use runnel_harness::{Collector, Deployment, Extra, Placement, Postgres, Process};

use crate::{measured::batch, server::once};

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `NAME.ca`.
    fn write(&self, folder: &Path, file: &str) -> String {
        write(folder, &format!("{file}.ca"), &self.0.pem())
    }

    /// Writes a certificate for a DNS name and its key.
    fn issue(&self, folder: &Path, file: &str, name: &str, last_year: i32) -> [String; 2] {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        [
            write(folder, &format!("{file}.pem"), &certificate.pem()),
            write(folder, &format!("{file}.key"), &key.serialize_pem()),
        ]
    }
}

fn write(folder: &Path, file: &str, text: &str) -> String {
    let path = folder.join(file);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_gateway_reaches_a_service() {
    let server = match Postgres::shared() {
        Ok(server) => server,
        Err(missing) => {
            assert!(std::env::var_os("CI").is_none(), "{missing}");
            eprintln!("SKIPPED only_the_named_gateway_reaches_a_service: {missing}");
            return;
        }
    };
    let binary = Path::new(env!("CARGO_BIN_EXE_runnel"));
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let (ca, other_ca) = (ours.write(folder, "ours"), others.write(folder, "others"));
    let [certificate, key] = ours.issue(folder, "ingest", "localhost", 2100);
    let secret = write(folder, "secret", &"5a".repeat(32));
    let database = server.url(&server.database().unwrap(), "owner");
    let store = ["--postgres", &database, "--context-key-file", &secret];
    let of_ingest = [
        &["ingest"],
        &store[..],
        &[
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
            "--tls-client-ca",
            &ca,
            "--tls-client-name",
            "gateway.internal",
        ],
    ]
    .concat();
    let ingest = Process::start(binary, &of_ingest).unwrap();
    let funnel = Process::start(binary, &[&["funnel"], &store[..]].concat()).unwrap();
    let port = ingest.endpoint.rsplit_once(':').unwrap().1;
    let address = format!("https://localhost:{port}");
    let gateway = |identity: &[&str]| {
        let (funnel, secret) = (&funnel.endpoint, &secret);
        let services =
            ["--pepper-file", secret, "--ingest", &address, "--funnel", funnel, "--segmentation", funnel];
        Process::start(binary, &[&["gateway"], &store[..], &services[..], identity].concat()).unwrap()
    };
    let with = |ca: &str, [certificate, key]: &[String; 2]| {
        ["--peer-ca", ca, "--peer-cert", certificate, "--peer-key", key].map(str::to_owned)
    };
    let named = ours.issue(folder, "gateway", "gateway.internal", 2100);
    let good = with(&ca, &named);
    let good: Vec<&str> = good.iter().map(String::as_str).collect();

    let first = gateway(&good);
    let operator = Client::connect(&first.endpoint, first.operator_key().unwrap()).await.unwrap();
    operator.admin().create_tenant(CreateTenantRequest { name: "shop".into() }).await.unwrap();
    let asked = CreateKeyRequest {
        tenant: "shop".into(),
        kind: KeyKind::Write as i32,
        ..CreateKeyRequest::default()
    };
    let write_key = operator.admin().create_key(asked).await.unwrap().into_inner().secret;
    let append = async |gateway: &Process| {
        let client = Client::connect(&gateway.endpoint, &write_key).await.unwrap().with_policy(once());
        let event = Event { visitor_id: "v".into(), name: "a".into(), time_ms: Some(1), ..Event::default() };
        client.append(vec![event], None).await.map(|appended| appended.response.accepted)
    };
    assert_eq!(append(&first).await.unwrap(), 1);

    let refused = [
        ("no certificate", vec!["--peer-ca".to_owned(), ca.clone()]),
        ("another name", with(&ca, &ours.issue(folder, "another", "funnel.internal", 2100)).to_vec()),
        ("an expired one", with(&ca, &ours.issue(folder, "expired", "gateway.internal", 2021)).to_vec()),
        (
            "another authority's",
            with(&ca, &others.issue(folder, "foreign", "gateway.internal", 2100)).to_vec(),
        ),
        ("a server that is not believed", with(&other_ca, &named).to_vec()),
    ];
    for (what, identity) in refused {
        let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
        let refused = append(&gateway(&identity)).await.unwrap_err().to_string();
        assert!(refused.contains("does not answer"), "{what}: {refused}");
    }
    // Who speaks no TLS at all gets nowhere either.
    assert!(
        Client::connect(&format!("http://localhost:{port}"), &write_key).await.is_err() || {
            let client = Client::connect(&format!("http://localhost:{port}"), &write_key).await.unwrap();
            client.with_policy(once()).append(vec![Event::default()], None).await.is_err()
        }
    );

    // A certificate of another authority takes the place of the first one.
    others.issue(folder, "ingest", "localhost", 2100);
    tokio::time::sleep(Duration::from_secs(11)).await;
    let renewed = with(&other_ca, &named);
    let renewed: Vec<&str> = renewed.iter().map(String::as_str).collect();
    assert_eq!(append(&gateway(&renewed)).await.unwrap(), 1);
    assert!(append(&gateway(&good)).await.is_err());
    assert_eq!(append(&first).await.unwrap(), 1, "the connection that was open still is");
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_over_tls_reaches_a_collector_whose_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("telemetry");
    let [certificate, key] = authority
        .issue(folder.path(), "collector", "localhost", 2100)
        .map(|file| std::fs::read_to_string(file).unwrap());
    let collector = Collector::start_with_tls(&certificate, &key).await.unwrap();
    let mut variables = collector.variables();
    variables.push(("RUNNEL_LOG".to_owned(), "info".to_owned()));
    variables.push(("SSL_CERT_FILE".to_owned(), authority.write(folder.path(), "collector")));
    let extra = Extra { variables, ..Extra::default() };
    let binary = Path::new(env!("CARGO_BIN_EXE_runnel"));
    let all = Deployment::start_with(binary, Placement::Folder, None, &extra).unwrap();
    let (write, _) = all.tenant("shop").await.unwrap();
    Client::connect(&all.endpoint, &write).await.unwrap().append(batch(0), None).await.unwrap();
    let arrived = || [collector.spans().len(), collector.lines().len(), collector.metrics().len()];
    for _ in 0..600 {
        if !arrived().contains(&0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("spans, lines and metrics that arrived: {:?}", arrived());
}
