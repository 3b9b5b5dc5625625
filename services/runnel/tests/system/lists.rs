//! Lists of visitors: named by segments, by any id of a person, wherever things are; and gone with who is erased.

use std::time::Duration;

use runnel_client::{
    Client, Refusal,
    proto::{
        admin::v1::KeyKind,
        event::v1::Event,
        identity::v1::{Identification, IdentifyRequest},
        list::v1::{
            DeleteListRequest, List, ListListMembersRequest, ListListsRequest, PutMembersRequest,
            RemoveMembersRequest,
        },
        segmentation::v1::{
            Condition, Conditions, DefineSegmentRequest, GetVisitorRequest, SegmentDefinition, SegmentRef,
            StreamMembersRequest, WasMemberRequest, condition::Node, segment_ref,
        },
        subject::v1::{EraseRequest, ErasureState, ExportSubjectRequest, GetErasureRequest},
    },
};
use runnel_harness::Deployment;
use runnel_model::limits;
use tonic::{Status, transport::Channel};

use crate::{places::everywhere, scan};

everywhere!(lists);

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;

fn event(visitor: &str) -> Event {
    Event {
        visitor_id: visitor.to_owned(),
        time_ms: Some(START),
        name: "look".to_owned(),
        ..Event::default()
    }
}

fn on(list: &str) -> Condition {
    Condition { node: Some(Node::List(list.to_owned())) }
}

fn not(condition: Condition) -> Condition {
    Condition { node: Some(Node::Not(Box::new(condition))) }
}

fn inline(condition: Condition) -> SegmentRef {
    let definition = SegmentDefinition { condition: Some(condition), ..SegmentDefinition::default() };
    SegmentRef { segment: Some(segment_ref::Segment::Inline(definition)) }
}

fn named(name: &str) -> SegmentRef {
    SegmentRef { segment: Some(segment_ref::Segment::Name(name.to_owned())) }
}

async fn members(client: &Client<Channel>, segment: SegmentRef) -> Result<Vec<String>, Status> {
    let request = StreamMembersRequest { segment: Some(segment), as_of_ms: Some(START + 1) };
    let mut parts = client.segmentation().stream_members(request).await?.into_inner();
    let mut ids = Vec::new();
    while let Some(part) = parts.message().await? {
        ids.extend(part.visitor_ids);
    }
    ids.sort_unstable();
    Ok(ids)
}

async fn put(client: &Client<Channel>, list: &str, ids: &[&str]) -> Result<List, Status> {
    let visitor_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let request = PutMembersRequest { list: list.to_owned(), visitor_ids };
    Ok(client.list().put_members(request).await?.into_inner().list.unwrap())
}

async fn remove(client: &Client<Channel>, list: &str, ids: &[&str]) -> Result<List, Status> {
    let visitor_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let request = RemoveMembersRequest { list: list.to_owned(), visitor_ids };
    Ok(client.list().remove_members(request).await?.into_inner().list.unwrap())
}

/// The ids on a list, by pages of two.
async fn listed(client: &Client<Channel>, list: &str) -> Result<Vec<String>, Status> {
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListListMembersRequest { list: list.to_owned(), page_size: 2, page_token };
        let page = client.list().list_list_members(request).await?.into_inner();
        ids.extend(page.visitor_ids);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(ids);
        }
    }
}

/// Why something was refused, and for which field.
fn why<T: std::fmt::Debug>(refused: Result<T, Status>) -> (String, String) {
    let refusal = Refusal::from(refused.unwrap_err());
    (refusal.reason, refusal.violations.into_iter().map(|one| one.field).collect())
}

fn reason(reason: &str, field: &str) -> (String, String) {
    (reason.to_owned(), field.to_owned())
}

/// Two customers, of whom one came with a cookie before, and somebody else; the list also has an id that never came.
async fn lists(server: Deployment) {
    let (write, read) = server.tenant("shop").await.unwrap();
    let erase = server.key("shop", KeyKind::Erase).await.unwrap();
    let writer = Client::connect(&server.endpoint, &write).await.unwrap();
    let client = Client::connect(&server.endpoint, &read).await.unwrap();
    let eraser = Client::connect(&server.endpoint, &erase).await.unwrap();
    let events = ["cookie-of-ada", "customer-bob", "somebody"].map(event);
    writer.append(events.to_vec(), None).await.unwrap();

    let crm = put(&client, "crm", &["customer-ada", "customer-bob", "never-came"]).await.unwrap();
    assert_eq!((&*crm.name, crm.members, crm.version), ("crm", 3, 1));
    assert_eq!(put(&client, "crm", &["customer-bob"]).await.unwrap(), crm, "it is there already");
    assert_eq!(listed(&client, "crm").await.unwrap(), ["customer-ada", "customer-bob", "never-came"]);
    assert_eq!(members(&client, inline(on("crm"))).await.unwrap(), ["customer-bob"]);
    assert_eq!(members(&client, inline(not(on("crm")))).await.unwrap(), ["cookie-of-ada", "somebody"]);
    let definition = SegmentDefinition { condition: Some(on("crm")), ..SegmentDefinition::default() };
    let request = DefineSegmentRequest {
        name: "customers".to_owned(),
        definition: Some(definition),
        expected_version: None,
    };
    client.segmentation().define_segment(request).await.unwrap();

    // Any id of a person counts, whichever is on the list.
    let identification = Identification {
        anonymous_id: "cookie-of-ada".to_owned(),
        known_id: "customer-ada".to_owned(),
        time_ms: Some(START),
    };
    writer.identity().identify(IdentifyRequest { identifications: vec![identification] }).await.unwrap();
    assert_eq!(members(&client, named("customers")).await.unwrap(), ["customer-ada", "customer-bob"]);
    put(&client, "cookies", &["cookie-of-ada"]).await.unwrap();
    assert_eq!(members(&client, inline(on("cookies"))).await.unwrap(), ["customer-ada"]);
    let request = WasMemberRequest {
        segment: Some(named("customers")),
        visitor_id: "cookie-of-ada".to_owned(),
        at_ms: Some(START + 1),
    };
    let told = client.segmentation().was_member(request.clone()).await.unwrap().into_inner();
    assert!(told.member && told.conditions[0].holds);
    assert_eq!(
        (&*told.conditions[0].field, &*told.visitor_id),
        ("segment.name.condition.list", "customer-ada")
    );
    let before = WasMemberRequest { at_ms: Some(START), ..request };
    let told = client.segmentation().was_member(before).await.unwrap().into_inner();
    assert!(!told.member, "nobody is a member before there is anything of them");
    let request = GetVisitorRequest {
        visitor_id: "somebody".to_owned(),
        as_of_ms: Some(START + 1),
        segments: vec!["customers".to_owned()],
        funnels: Vec::new(),
        values: false,
    };
    let told = client.segmentation().get_visitor(request).await.unwrap().into_inner();
    assert!(!told.segments[0].member);

    // As it is now, at every instant.
    let removed = remove(&client, "crm", &["customer-bob", "nobody"]).await.unwrap();
    assert_eq!((removed.members, removed.version), (2, 2));
    assert_eq!(members(&client, named("customers")).await.unwrap(), ["customer-ada"]);
    put(&client, "crm", &["customer-bob"]).await.unwrap();

    erased(&server, &client, &eraser).await;
    refused(&client).await;
}

/// Who is erased is told of all lists, and is on none afterwards; no byte is left.
async fn erased(server: &Deployment, client: &Client<Channel>, eraser: &Client<Channel>) {
    let request = ExportSubjectRequest { visitor_id: "cookie-of-ada".to_owned() };
    let mut parts = eraser.subject().export_subject(request).await.unwrap().into_inner();
    let first = parts.message().await.unwrap().unwrap();
    assert_eq!(
        (first.identity.unwrap().visitor_id, first.lists),
        ("customer-ada".to_owned(), vec!["cookies".to_owned(), "crm".to_owned()],)
    );
    let texts = ["cookie-of-ada", "customer-ada"].map(str::to_owned);
    assert!(!scan::found(server, &texts).is_empty(), "what is there is found");
    let request = EraseRequest { visitor_id: "cookie-of-ada".to_owned() };
    let asked = eraser.subject().erase(request).await.unwrap().into_inner();
    assert_eq!(members(client, named("customers")).await.unwrap(), ["customer-bob"]);
    assert_eq!(listed(client, "crm").await.unwrap(), ["customer-bob", "never-came"]);
    assert_eq!(listed(client, "cookies").await.unwrap(), [""; 0]);
    let request = GetErasureRequest { erasure: asked.erasure };
    while eraser.subject().get_erasure(request).await.unwrap().into_inner().state() != ErasureState::Done {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = scan::found(server, &texts);
    assert!(found.is_empty(), "{found:?}");
}

async fn refused(client: &Client<Channel>) {
    let page = async |page_token: &str| {
        let request = ListListsRequest { page_size: 1, page_token: page_token.to_owned() };
        let page = client.list().list_lists(request).await.unwrap().into_inner();
        (page.lists[0].name.clone(), page.lists[0].members, page.next_page_token)
    };
    assert_eq!(page("").await, ("cookies".to_owned(), 0, "cookies".to_owned()));
    assert_eq!(page("cookies").await, ("crm".to_owned(), 2, String::new()));

    // What is not there.
    let unknown = reason("NOT_FOUND", "list");
    assert_eq!(why(remove(client, "nothing", &["a"]).await), unknown);
    assert_eq!(why(listed(client, "nothing").await), unknown);
    let field = "segment.inline.condition.not.list";
    assert_eq!(why(members(client, inline(not(on("nothing")))).await), reason("LIST_UNKNOWN", field));
    let delete = |name: &str| DeleteListRequest { list: name.to_owned() };
    client.list().delete_list(delete("cookies")).await.unwrap();
    assert_eq!(why(client.list().delete_list(delete("cookies")).await), unknown);
    let field = "segment.inline.condition.list";
    assert_eq!(why(members(client, inline(on("cookies"))).await), reason("LIST_UNKNOWN", field));

    // What is too much, or none.
    assert_eq!(why(put(client, "", &["a"]).await), reason("NAME_INVALID", "list"));
    assert_eq!(why(put(client, &"x".repeat(129), &["a"]).await), reason("NAME_INVALID", "list"));
    assert_eq!(why(put(client, "crm", &[]).await), reason("FIELD_MISSING", "visitor_ids"));
    assert_eq!(why(put(client, "crm", &["a", ""]).await), reason("FIELD_MISSING", "visitor_ids[1]"));
    let long = "x".repeat(257);
    assert_eq!(why(put(client, "crm", &[&long]).await), reason("TEXT_TOO_LONG", "visitor_ids[0]"));
    assert_eq!(why(put(client, "crm", &["a\0"]).await), reason("TEXT_HAS_NUL", "visitor_ids[0]"));
    let many: Vec<String> = (0..=limits::LIST_CHANGES).map(|id| id.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(why(put(client, "crm", &many).await), reason("BATCH_TOO_LONG", "visitor_ids"));
    assert_eq!(listed(client, "crm").await.unwrap(), ["customer-bob", "never-came"], "nothing half done");
    for number in 1..limits::LISTS {
        put(client, &format!("list {number}"), &["a"]).await.unwrap();
    }
    assert_eq!(why(put(client, "one more", &["a"]).await), reason("LIMIT_REACHED", "list"));
    let parts = (1..=limits::LISTS_OF_A_SEGMENT + 1).map(|number| on(&format!("list {number}"))).collect();
    let any = Condition { node: Some(Node::Any(Conditions { parts })) };
    let field = "segment.inline.condition.any[0].list";
    assert_eq!(why(members(client, inline(any)).await), reason("SEGMENT_INVALID", field));
}

/// The same on the command line, over a folder.
#[test]
fn lists_are_kept_on_the_command_line() {
    use crate::command::{import, json, number, runnel};
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let events = file(
        "events.csv",
        "visitor_id,occurred_at,name\nada,2026-01-01T00:00:00Z,look\nbob,2026-01-01T00:00:00Z,look\n",
    );
    import(std::path::Path::new(&events), &data, "shop", &[]);
    let at = ["--data-dir", data.to_str().unwrap(), "--tenant", "shop"];
    let catalog = |args: &[&str]| json(&[&["catalog"], args, &at].concat());
    let ids = file("ids.txt", "ada\r\n\neve\n");
    let added = catalog(&["list-add", "crm", &ids]);
    assert_eq!((number(&added["list"]["members"]), number(&added["list"]["version"])), (2, 1));
    let ask = |condition: &str| {
        let asked = json(&[&["ask", "segment", condition, "crm"][..], &at].concat());
        (number(&asked["members"]), asked["examples"][0].as_str().unwrap().to_owned())
    };
    assert_eq!(ask("--on-list"), (1, "ada".to_owned()));
    assert_eq!(ask("--not-on-list"), (1, "bob".to_owned()));
    let removed = catalog(&["list-remove", "crm", &file("gone.txt", "eve\n")]);
    assert_eq!(number(&removed["list"]["members"]), 1);
    assert_eq!(catalog(&["lists"])["lists"][0]["name"], "crm");
    let refused = runnel(&[&["catalog", "list-remove", "crm"][..], &at].concat());
    assert!(!refused.success && refused.err.contains("--yes"), "{}", refused.err);
    catalog(&["list-remove", "crm", "--yes"]);
    assert_eq!(catalog(&["lists"])["lists"].as_array().unwrap().len(), 0);
    let empty = runnel(&[&["catalog", "list-add", "crm", &file("empty.txt", "\n")][..], &at].concat());
    assert!(!empty.success && empty.err.contains("no ids"), "{}", empty.err);
}
