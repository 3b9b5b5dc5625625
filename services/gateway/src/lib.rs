//! The gateway: who is calling, may they, and where to. No business logic; request bytes pass through undecoded.
//!
//! A call goes through these steps in this order:
//! 1. the content type must be gRPC's ([`edge`]);
//! 2. the method must be in the table of methods, which says what kind of key it needs ([`methods`]);
//! 3. the key must be genuine, alive and of that kind ([`keys`]);
//! 4. the caller's signed context takes the place of whatever the client put there;
//! 5. the service that owns the method takes over.

mod admin;
pub mod edge;
pub mod keys;
pub mod methods;

pub use admin::Admin;
pub use edge::{Edge, Routes};
pub use keys::{ApiKey, Keys};
