//! How a call ended, read from what goes out: the code, the reason of a refusal, and whose fault it was.

use http::{HeaderMap, HeaderValue, StatusCode};
use runnel_contracts::refusal::{DOMAIN, Reason};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The key of the request's identifier among the details of a refusal.
const REQUEST_ID: &str = "request_id";

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) code: Code,
    /// The reason that a refusal of ours gives.
    pub(super) reason: Option<Reason>,
    /// Whether it is for those who run the server to do something about it.
    pub(super) fault: bool,
}

impl Ending {
    /// All went well.
    pub(super) const OK: Ending = Ending { code: Code::Ok, reason: None, fault: false };
    /// The caller went away.
    pub(super) const CANCELLED: Ending = Ending { code: Code::Cancelled, reason: None, fault: false };
    /// The answer broke off.
    pub(super) const BROKEN: Ending = Ending { code: Code::Internal, reason: None, fault: true };

    /// Of an answer that is not gRPC's.
    pub(super) fn of_http(status: StatusCode) -> Ending {
        match status.is_success() {
            true => Ending::OK,
            false => Ending { code: Code::Unknown, reason: None, fault: status.is_server_error() },
        }
    }

    /// Of headers or trailers that say how the call ended. A refusal gets the request's identifier into its details. `None` when they do not say.
    pub(super) fn of_headers(headers: &mut HeaderMap, request_id: &HeaderValue) -> Option<Ending> {
        // Most calls end well; of those nothing is copied.
        if headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "0") {
            return Some(Ending::OK);
        }
        let status = Status::from_header_map(headers)?;
        let mut details = status.get_error_details();
        let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) else {
            return Some(Ending { code: status.code(), reason: None, fault: is_fault(status.code()) });
        };
        let reason = Reason::ALL.iter().copied().find(|reason| reason.name() == info.reason);
        if !info.metadata.contains_key(REQUEST_ID) {
            let mut metadata = info.metadata.clone();
            metadata.insert(REQUEST_ID.to_owned(), request_id.to_str().unwrap_or_default().to_owned());
            let name = info.reason.clone();
            details.set_error_info(name, DOMAIN, metadata);
            let told = Status::with_error_details(status.code(), status.message(), details);
            // A status that does not fit into headers goes out as it was.
            drop(told.add_header(headers));
        }
        let fault = reason.map_or(is_fault(status.code()), |reason| of_the_server(reason, status.code()));
        Some(Ending { code: status.code(), reason, fault })
    }
}

/// Whether a refusal is for those who run the server, whatever its code says to clients.
fn of_the_server(reason: Reason, code: Code) -> bool {
    match reason {
        Reason::StoreFull => true,
        // A server that stops is meant to, and who does not send is not sent for.
        Reason::ShuttingDown | Reason::RequestStalled => false,
        _ => is_fault(code),
    }
}

fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::DataLoss
    )
}

#[cfg(test)]
mod tests {
    use runnel_contracts::refusal::Refusal;

    use super::*;

    fn headers(status: Status) -> HeaderMap {
        status.into_http::<()>().headers().clone()
    }

    #[test]
    fn a_refusal_is_read_and_gets_the_requests_identifier_once() {
        let refusal = Refusal::field(Reason::BatchEmpty, "events", "No events: é.");
        let mut headers = headers(refusal.into());
        let ending = Ending::of_headers(&mut headers, &HeaderValue::from_static("r-1"));
        let expected = Ending { code: Code::InvalidArgument, reason: Some(Reason::BatchEmpty), fault: false };
        assert_eq!(ending, Some(expected));
        assert_eq!(Ending::of_headers(&mut headers, &HeaderValue::from_static("r-2")), ending);
        let status = Status::from_header_map(&headers).unwrap();
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["request_id"], "r-1");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "events");
        assert!(status.message().starts_with("No events: é."), "{status:?}");
    }

    #[test]
    fn faults_are_told_from_mistakes() {
        let id = HeaderValue::from_static("r");
        let fault = |status: Status| Ending::of_headers(&mut headers(status), &id).unwrap().fault;
        let refused = |reason| fault(Refusal::new(reason, "").into());
        assert!(refused(Reason::StoreUnavailable) && refused(Reason::StoreFull) && refused(Reason::Internal));
        assert!(
            !refused(Reason::BacklogFull) && !refused(Reason::KeyInvalid) && !refused(Reason::ShuttingDown)
        );
        assert!(fault(Status::internal("")) && !fault(Status::unimplemented("")));
        assert_eq!(Ending::of_headers(&mut HeaderMap::new(), &id), None);
        assert!(!Ending::of_http(StatusCode::UNSUPPORTED_MEDIA_TYPE).fault);
    }
}
