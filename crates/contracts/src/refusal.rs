//! The closed list of refusals. Each has one gRPC code, one stable upper-case reason and one sentence of help, and travels as google.rpc details.

use std::{fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `google.rpc.ErrorInfo` that we send.
pub const DOMAIN: &str = "runnel";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $code:ident, $help:literal;)*) => {
        /// Why something was refused. Clients act on the name, which never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The stable upper-case name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// The gRPC code.
            #[must_use]
            pub fn code(self) -> Code {
                match self { $(Reason::$variant => Code::$code,)* }
            }

            /// What to do about it, in a sentence.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Reason::$variant => $help,)* }
            }
        }
    };
}

reasons! {
    /// The bytes are no protobuf message of the expected kind.
    MessageMalformed, "MESSAGE_MALFORMED", InvalidArgument, "Send a message encoded from the published proto files.";
    /// The message is larger than the limit.
    MessageTooLarge, "MESSAGE_TOO_LARGE", ResourceExhausted, "Send smaller batches.";
    /// No events.
    BatchEmpty, "BATCH_EMPTY", InvalidArgument, "Send at least one event.";
    /// Too many events.
    BatchTooLong, "BATCH_TOO_LONG", InvalidArgument, "Split the batch.";
    /// The request id was used with other content.
    RequestReused, "REQUEST_REUSED", AlreadyExists, "Use a new request_id for new content.";
    /// The stream's messages are out of order.
    StreamProtocol, "STREAM_PROTOCOL", InvalidArgument, "Send open first, then batches with sequences that rise by one.";
    /// One event's bytes are damaged.
    EventMalformed, "EVENT_MALFORMED", InvalidArgument, "Encode the event from the published proto files.";
    /// One event is larger than the limit.
    EventTooLarge, "EVENT_TOO_LARGE", InvalidArgument, "Send fewer or shorter properties.";
    /// A required field is absent.
    FieldMissing, "FIELD_MISSING", InvalidArgument, "Set the field.";
    /// A text is longer than the limit.
    TextTooLong, "TEXT_TOO_LONG", InvalidArgument, "Shorten the text.";
    /// A text is not UTF-8.
    TextNotUtf8, "TEXT_NOT_UTF8", InvalidArgument, "Send UTF-8.";
    /// A text holds a NUL character.
    TextHasNul, "TEXT_HAS_NUL", InvalidArgument, "Remove the NUL character.";
    /// The event is too far in the future.
    EventTimeInFuture, "EVENT_TIME_IN_FUTURE", InvalidArgument, "Check the sender's clock and that the time is in milliseconds.";
    /// The event's time is outside years 1 to 9999.
    EventTimeOutOfRange, "EVENT_TIME_OUT_OF_RANGE", InvalidArgument, "Send milliseconds since 1970-01-01T00:00:00Z.";
    /// Too many properties.
    PropertiesTooMany, "PROPERTIES_TOO_MANY", InvalidArgument, "Send fewer properties.";
    /// A property value has no known type.
    PropertyTypeUnknown, "PROPERTY_TYPE_UNKNOWN", InvalidArgument, "Set exactly one of string_value, int_value, double_value, bool_value.";
    /// A number is infinite or not a number.
    NumberNotFinite, "NUMBER_NOT_FINITE", InvalidArgument, "Send a finite number.";
    /// A number is outside its bounds.
    NumberOutOfRange, "NUMBER_OUT_OF_RANGE", InvalidArgument, "Send a number within the bounds.";
    /// A currency is not three upper-case letters.
    CurrencyMalformed, "CURRENCY_MALFORMED", InvalidArgument, "Send an ISO 4217 code such as EUR.";
    /// An enum number that the contract does not know.
    EnumUnknown, "ENUM_UNKNOWN", InvalidArgument, "Use a value of the published proto files.";
    /// The visitor was erased, and this happened before that.
    SubjectErased, "SUBJECT_ERASED", FailedPrecondition, "Nothing: what happened before an erasure stays away. Later events are a new visitor's.";
    /// A daily count breaks a rule.
    DailyCountInvalid, "DAILY_COUNT_INVALID", InvalidArgument, "Write dates as 2026-03-01, and say each count once.";
    /// It happened longer ago than the tenant's events are kept.
    Late, "LATE", FailedPrecondition, "Nothing: older events are not kept; runnel retention shows for how long they are.";
    /// The question is about a time of which nothing but counts is kept.
    NotAvailableAfterRetention, "NOT_AVAILABLE_AFTER_RETENTION", FailedPrecondition, "Ask for a later range, or for a trend of conversions by day, week or month with buckets_only.";
    /// Too many names of events or properties.
    NamesTooMany, "NAMES_TOO_MANY", InvalidArgument, "Put what varies into property values, not into names.";
    /// An anonymous id was identified as somebody else earlier.
    IdentityTaken, "IDENTITY_TAKEN", FailedPrecondition, "Nothing: a device that two persons use does not join them.";
    /// An id was used as a known one before.
    IdentityKnown, "IDENTITY_KNOWN", FailedPrecondition, "Join known ids with Merge, which needs an admin key.";
    /// An id is an anonymous one of somebody.
    IdentityAnonymous, "IDENTITY_ANONYMOUS", FailedPrecondition, "Merge the known id that it belongs to.";
    /// An id was joined with itself.
    IdentityInvalid, "IDENTITY_INVALID", InvalidArgument, "Name two ids.";
    /// A funnel's definition breaks a rule.
    FunnelInvalid, "FUNNEL_INVALID", InvalidArgument, "Correct the definition.";
    /// A conversion's definition breaks a rule.
    ConversionInvalid, "CONVERSION_INVALID", InvalidArgument, "Correct the definition.";
    /// A segment's definition breaks a rule.
    SegmentInvalid, "SEGMENT_INVALID", InvalidArgument, "Correct the definition.";
    /// The question names a segment that there is not.
    SegmentUnknown, "SEGMENT_UNKNOWN", FailedPrecondition, "Define the segment, or name another; runnel ask segments lists them.";
    /// The question names a list that there is not.
    ListUnknown, "LIST_UNKNOWN", FailedPrecondition, "Put somebody on the list, or name another; runnel catalog lists shows them.";
    /// The question names a funnel that there is not.
    FunnelUnknown, "FUNNEL_UNKNOWN", FailedPrecondition, "Save the funnel, or name another.";
    /// The question names a conversion that the catalogue does not have.
    ConversionUnknown, "CONVERSION_UNKNOWN", FailedPrecondition, "Define the conversion, or name another; runnel catalog conversions lists them.";
    /// The settings break a rule.
    SettingsInvalid, "SETTINGS_INVALID", InvalidArgument, "Correct the settings.";
    /// A condition breaks a rule.
    PredicateInvalid, "PREDICATE_INVALID", InvalidArgument, "Correct the condition.";
    /// The question would cost more than allowed.
    CostTooHigh, "COST_TOO_HIGH", ResourceExhausted, "Ask for a shorter range or fewer choices.";
    /// A page token of another question.
    PageTokenInvalid, "PAGE_TOKEN_INVALID", InvalidArgument, "Pass the token of the previous page unchanged, with the same question.";
    /// A name that breaks the rule for names.
    NameInvalid, "NAME_INVALID", InvalidArgument, "Choose another name.";
    /// No credentials.
    KeyMissing, "KEY_MISSING", Unauthenticated, "Send a key as metadata, in the form authorization: Bearer rk_….";
    /// The key is unknown, expired, revoked or damaged.
    KeyInvalid, "KEY_INVALID", Unauthenticated, "Use a live key; runnel keys create makes one.";
    /// The key may not do this.
    ScopeMissing, "SCOPE_MISSING", PermissionDenied, "Use a key of the kind that the method needs.";
    /// There is no such thing for this tenant.
    NotFound, "NOT_FOUND", NotFound, "Check the name.";
    /// It exists already.
    AlreadyExists, "ALREADY_EXISTS", AlreadyExists, "Use what exists or choose another name.";
    /// Somebody else changed it first.
    VersionConflict, "VERSION_CONFLICT", Aborted, "Read the newest version and try again.";
    /// A limit of the tenant is reached.
    LimitReached, "LIMIT_REACHED", ResourceExhausted, "Remove what is no longer used.";
    /// More is waiting than may wait.
    BacklogFull, "BACKLOG_FULL", ResourceExhausted, "Wait as long as retry_delay says and send the same again.";
    /// The tenant's rate is used up.
    RateLimited, "RATE_LIMITED", ResourceExhausted, "Wait as long as retry_delay says and send the same again.";
    /// Too many calls of the tenant are under way.
    CallsTooMany, "CALLS_TOO_MANY", ResourceExhausted, "Wait for answers before sending more.";
    /// The server has more to do than it can do in time.
    Overloaded, "OVERLOADED", Unavailable, "Wait as long as retry_delay says and send the same again.";
    /// The call's time is over.
    DeadlinePassed, "DEADLINE_PASSED", DeadlineExceeded, "Allow more time, or ask for less; what was sent may have been carried out.";
    /// The request did not arrive in time.
    RequestStalled, "REQUEST_STALLED", DeadlineExceeded, "Send a message at once, not in pieces.";
    /// The message has too many elements.
    ElementsTooMany, "ELEMENTS_TOO_MANY", ResourceExhausted, "Send fewer elements.";
    /// The message is compressed in a way that is not known here, or is damaged.
    EncodingUnsupported, "ENCODING_UNSUPPORTED", Unimplemented, "Compress with gzip or zstd, or not at all.";
    /// The store has no room.
    StoreFull, "STORE_FULL", ResourceExhausted, "Free space on the server and send the same again.";
    /// The store does not answer; whether the write happened is unknown.
    StoreUnavailable, "STORE_UNAVAILABLE", Unavailable, "Send the same again with the same request_id.";
    /// A service behind the gateway does not answer; whether the call was carried out may be unknown.
    ServiceUnavailable, "SERVICE_UNAVAILABLE", Unavailable, "Send the same again with the same ids.";
    /// Stored bytes are damaged.
    DataDamaged, "DATA_DAMAGED", DataLoss, "Run runnel doctor on the server.";
    /// The server is stopping.
    ShuttingDown, "SHUTTING_DOWN", Unavailable, "Connect again and send the same again.";
    /// The request is for something that this server does not serve.
    Unsupported, "UNSUPPORTED", Unimplemented, "Check the method and the server's version.";
    /// A fault of the server.
    Internal, "INTERNAL", Internal, "Report it with the request id.";
}

/// A typed "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Which field of the request, when one is to blame.
    pub field: String,
    /// A sentence: what is wrong, the limit and the value.
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with a sentence.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, field: String::new(), message: message.into(), retry_after: None }
    }

    /// A refusal that blames a field.
    #[must_use]
    pub fn field(reason: Reason, field: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { reason, field: field.into(), message: message.into(), retry_after: None }
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Refusal {
        self.retry_after = Some(wait);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.message, self.reason.help())
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(refusal.reason.name(), DOMAIN, std::collections::HashMap::new());
        if !refusal.field.is_empty() {
            details.add_bad_request_violation(&refusal.field, &refusal.message);
        }
        if let Some(wait) = refusal.retry_after {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(refusal.reason.code(), refusal.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_distinct_and_travel_as_details() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        let refusal = Refusal::field(
            Reason::BatchTooLong,
            "events",
            "A batch has at most 10,000 events; this one has 10,001.",
        );
        let status = Status::from(refusal.retry_after(Duration::from_secs(1)));
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "BATCH_TOO_LONG");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "events");
        assert!(details.retry_info().is_some());
    }
}
