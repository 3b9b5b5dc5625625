//! Named places where tests make the store fail.

use runnel_failpoints::{Injected, hit};

use crate::Unavailable;

/// Passes a place; what a test makes fail there looks like a fault of the database.
pub(crate) async fn point(name: &'static str) -> Result<(), sqlx::Error> {
    hit(name).await.map_err(fault)
}

fn fault(injected: Injected) -> sqlx::Error {
    sqlx::Error::AnyDriverError(Box::new(injected))
}

impl From<Injected> for Unavailable {
    fn from(injected: Injected) -> Unavailable {
        Unavailable::Database(fault(injected).into())
    }
}
