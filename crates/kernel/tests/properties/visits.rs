//! Sessions, marks and what is counted of them: against the twin, and by hand.

mod agreement;
mod by_hand;
mod columns;
mod members;
mod random;
