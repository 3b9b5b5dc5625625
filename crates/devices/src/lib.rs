//! What a user agent says of itself: what kind of device, which system, which browser.
//!
//! [`Rules`] read the `User-Agent` header as a back end forwards it. They are data (`rules/*.txt`): for each
//! of the three answers an ordered table, of which the first rule that holds decides. Classifying is a pure
//! function of the header. It takes about a microsecond, so there is no need to remember results per header.
//!
//! ```
//! use runnel_devices::{Kind, Rules};
//!
//! let rules = Rules::standard()?;
//! let device = rules.classify(
//!     "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
//!      Version/17.4 Mobile/15E148 Safari/604.1",
//! );
//! assert_eq!((device.kind, device.os, device.browser), (Kind::Mobile, "iOS", "Safari"));
//! # Ok::<(), runnel_devices::RulesError>(())
//! ```
//!
//! # What cannot be told
//!
//! A header is a claim that nobody checks. Beyond that:
//!
//! - Safari on an iPad asks for desktop pages since iPadOS 13 and then says what it says on a Mac. It counts
//!   as a Mac.
//! - Chrome on Android that was asked for the desktop site says Linux, and counts as a desktop.
//! - Windows 11 says what Windows 10 says, and macOS has said 10.15.7 since 2020. Hence there are no
//!   versions.
//! - Brave names itself on iOS only; elsewhere it says what Chrome says.
//! - The libraries that apps are built with (`okhttp`, `CFNetwork`, `Dart`) run on phones far more often than
//!   on servers, but do not say where. They are no bots; what is not said beside them is unknown.
//! - A crawler that claims to be a browser, and no more than that, counts as one.

mod device;
mod fault;
pub mod limits;
mod patterns;
mod rules;
mod text;

pub use device::{Device, Kind};
pub use fault::{Fault, RulesError};
pub use rules::Rules;
