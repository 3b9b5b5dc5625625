//! Deadlines: the client's own, or the longest that a call may take. The rest of it is told to the service behind.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use runnel_chassis::Upstream;
use runnel_contracts::refusal::{Reason, Refusal};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};

use super::refuse;
use crate::methods::{Load, Method};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The longest that anything but a stream may take.
const LONGEST: Duration = Duration::from_secs(60);

/// When a call's time is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// What is left.
    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Reads the header `grpc-timeout`: at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Writes what is left into the header, for the service behind.
pub(super) fn propagate(deadline: Deadline, headers: &mut HeaderMap) {
    let micros = deadline.left().as_micros().min(99_999_999);
    if let Ok(value) = HeaderValue::from_str(&format!("{micros}u")) {
        headers.insert(TIMEOUT, value);
    }
}

/// Ends calls whose time is over. What they started in the store goes on by itself.
pub(super) async fn keep(_: (), mut request: Request<Body>, next: Upstream) -> Response<Body> {
    let unbounded = request
        .extensions()
        .get::<&'static Method>()
        .is_none_or(|method| matches!(method.load, Load::Stream | Load::Watch | Load::Follow));
    let asked = timeout(request.headers());
    let allowed = match (asked, unbounded) {
        (None, true) => return next.answer(request).await,
        (asked, false) => asked.unwrap_or(LONGEST).min(LONGEST),
        (Some(asked), true) => asked,
    };
    let deadline = Deadline(Instant::now() + allowed);
    request.extensions_mut().insert(deadline);
    let over = || {
        let text = format!("The call was not done within {} ms.", allowed.as_millis());
        refuse(Refusal::new(Reason::DeadlinePassed, text))
    };
    // A timer is not as fine as a call is quick: what comes too late is not even begun.
    if deadline.left().is_zero() {
        return over();
    }
    match tokio::time::timeout_at(deadline.0, next.answer(request)).await {
        // A service behind that gave up at the same moment says so in other words.
        Ok(response) if deadline.left().is_zero() && cancelled(&response) => over(),
        Ok(response) => response,
        Err(_) => over(),
    }
}

fn cancelled(response: &Response<Body>) -> bool {
    Status::from_header_map(response.headers()).is_some_and(|status| status.code() == Code::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_static(text));
            timeout(&headers)
        };
        assert_eq!(of("5S"), Some(Duration::from_secs(5)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "5", "123456789S", "-1S", "1 S", "5x", "+5S"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
