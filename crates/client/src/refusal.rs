//! What a server's "no" says, read from its standard error details.

use std::{fmt, time::Duration};

use runnel_contracts::refusal::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A field of the request that is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path, for example `events`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// A call was refused, or did not get through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The stable upper-case reason; empty when the answer did not come from a Runnel server.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// The fields to blame.
    pub violations: Vec<FieldViolation>,
    /// How long to wait before trying again, when the server says so.
    pub retry_after: Option<Duration>,
    /// What the server calls the call, to be quoted to those who run it; empty when it does not say.
    pub request_id: String,
}

impl Refusal {
    /// The reason as a member of the closed list; `None` when this client is older than the reason or none was given.
    #[must_use]
    pub fn known(&self) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.name() == self.reason)
    }

    /// Whether the same call may be sent again without changing it: the transport failed, the outcome is unknown, or the server said when to come back.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        match self.code {
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => true,
            Code::ResourceExhausted => self.retry_after.is_some(),
            // A connection that ends in the middle of a call. A server's own INTERNAL always has a reason.
            Code::Internal => self.reason.is_empty() && self.message.starts_with("h2 protocol error"),
            _ => false,
        }
    }

    /// The attempt took too long; whether the server has done it is unknown.
    pub(crate) fn timed_out(after: Duration) -> Refusal {
        Refusal {
            code: Code::DeadlineExceeded,
            reason: String::new(),
            message: format!(
                "no answer within {} ms; whether the batch was stored is unknown",
                after.as_millis()
            ),
            violations: Vec::new(),
            retry_after: None,
            request_id: String::new(),
        }
    }

    /// The transport is gone.
    pub(crate) fn unavailable(message: String) -> Refusal {
        Refusal {
            code: Code::Unavailable,
            reason: String::new(),
            message,
            violations: Vec::new(),
            retry_after: None,
            request_id: String::new(),
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let violations = violations.iter().map(|found| FieldViolation {
            field: found.field.clone(),
            description: found.description.clone(),
        });
        Refusal {
            // tonic reports its own time-outs as CANCELLED; to a caller they are what every other gRPC library calls DEADLINE_EXCEEDED.
            code: if status.code() == Code::Cancelled && status.message() == "Timeout expired" {
                Code::DeadlineExceeded
            } else {
                status.code()
            },
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            request_id: details
                .error_info()
                .and_then(|info| info.metadata.get("request_id").cloned())
                .unwrap_or_default(),
            message: status.message().to_owned(),
            violations: violations.collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            write!(f, "{:?}: {}", self.code, self.message)
        } else {
            write!(f, "{}: {}", self.reason, self.message)
        }
    }
}

impl std::error::Error for Refusal {}

/// Why a batch has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The server refused the batch as a whole and stored nothing of it (after `INTERNAL` and `DATA_DAMAGED` that is not certain). Sending it again unchanged
    /// does not help.
    #[error("the batch was refused: {0}")]
    Refused(#[source] Refusal),
    /// No answer in the time that the policy gives. Whether the batch was stored is unknown; sending it again with the same request id and content is safe.
    #[error(
        "the batch got no answer in {attempts} attempts, last: {last}; it may or may not be stored, and can be sent again unchanged"
    )]
    Unanswered {
        /// How often it was sent.
        attempts: u32,
        /// What the last attempt met.
        #[source]
        last: Refusal,
    },
}

impl AppendError {
    /// The refusal, or what the last attempt met.
    #[must_use]
    pub fn refusal(&self) -> &Refusal {
        match self {
            AppendError::Refused(refusal) | AppendError::Unanswered { last: refusal, .. } => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_read_from_a_status() {
        let sent =
            runnel_contracts::refusal::Refusal::field(Reason::BacklogFull, "events", "Too much waits.");
        let refusal = Refusal::from(Status::from(sent.retry_after(Duration::from_millis(1_500))));
        assert_eq!(refusal.code, Code::ResourceExhausted);
        assert_eq!(refusal.known(), Some(Reason::BacklogFull));
        assert_eq!(refusal.violations[0].field, "events");
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(1_500)));
        assert!(refusal.may_be_repeated());
        assert!(!Refusal { retry_after: None, ..refusal.clone() }.may_be_repeated());
        let plain = Refusal::from(Status::new(Code::Cancelled, "Timeout expired"));
        assert_eq!((plain.code, plain.known()), (Code::DeadlineExceeded, None));
        assert!(plain.may_be_repeated());
        for code in [
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::Internal,
            Code::AlreadyExists,
            Code::DataLoss,
        ] {
            assert!(!Refusal { code, ..refusal.clone() }.may_be_repeated());
        }
    }
}
