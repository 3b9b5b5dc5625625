//! The house rules as code: which member may depend on which, how long a file may be, what a name may be, and the
//! contract's surface as text.
//!
//! A rule is a function from the tree to a list of faults, each a sentence with a path. The tests in `tests/` run every
//! rule over this repository; the unit tests beside a rule plant a fault and see that it is found.

pub mod code;
pub mod contract;
pub mod dependencies;
pub mod manifest;
pub mod names;
pub mod sources;
pub mod surface;
pub mod tree;
