//! The segmentation service: groups of visitors, and who is there at this moment.
//!
//! How many sessions are open is answered from hot state where that is known to be complete, and from the journeys of all visitors where it is not. Both give the
//! same number:
//! 1. every shard of hot state says up to which number of the journal it is complete ([`open`]);
//! 2. the journal says what came since; it is applied, by the process that owns the tenant at the moment ([`owner`]);
//! 3. what is lost, out of reach, or behind and owned by another process is counted from the journeys instead, and hot state is filled again in the background
//!    ([`rebuild`]).
//!
//! Who belongs is asked of journeys ([`segments`]), and watched ([`live`]); what is asked of one visitor is asked of its journey alone ([`visitor`]). Ad
//! networks are told of those who agree to ads ([`audience`]). Lists of visitors, which conditions may name, are kept ([`lists`]).

mod audience;
mod door;
mod follow;
mod lists;
mod live;
mod open;
mod owner;
mod rebuild;
mod segments;
mod service;
mod visitor;

pub use open::SegmentationOptions;
pub use service::Segmentation;
