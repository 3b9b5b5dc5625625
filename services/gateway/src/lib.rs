//! The gateway: who is calling, may they, and where to. No business logic; request bytes pass through undecoded.
//!
//! [`edge`] is the one list of layers that a call passes, in order; [`methods`] is the table of methods; [`keys`] knows who calls; [`Admin`] is the control plane;
//! [`Effects`] puts together what two services behind it answer.

mod admin;
pub mod edge;
mod effects;
pub mod keys;
pub mod methods;

pub use admin::Admin;
pub use edge::{Allowances, Edge, EdgeOptions, OriginError, Origins, Routes};
pub use effects::Effects;
pub use keys::{ApiKey, Keys};
