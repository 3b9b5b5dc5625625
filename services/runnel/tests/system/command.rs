//! Runs the command `runnel`.

use std::{
    path::Path,
    process::{Command, Output},
};

/// What a run said.
pub(crate) struct Said {
    /// Whether it exited with 0.
    pub(crate) success: bool,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

/// Runs the command to its end.
pub(crate) fn runnel(args: &[&str]) -> Said {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_runnel")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { success: status.success(), out: text(stdout), err: text(stderr) }
}

/// Runs the command, which must succeed, and reads its JSON.
pub(crate) fn json(args: &[&str]) -> serde_json::Value {
    let said = runnel(&[args, &["--output", "json"]].concat());
    assert!(said.success, "{args:?}: {}", said.err);
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{args:?} printed {}", said.out))
}

/// Imports a file; the summary.
pub(crate) fn import(file: &Path, data: &Path, tenant: &str, more: &[&str]) -> serde_json::Value {
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    json(&[&["import", file, "--data-dir", data, "--tenant", tenant], more].concat())
}

/// A whole number that may be written as a string, as protobuf's JSON does with 64 bits.
pub(crate) fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

/// Asks a funnel of a data folder; the answer.
pub(crate) fn ask(data: &Path, tenant: &str, args: &[&str]) -> serde_json::Value {
    json(&[&["ask", "funnel", "--data-dir", data.to_str().unwrap(), "--tenant", tenant], args].concat())
}

/// `steps[].reached` of an answer.
pub(crate) fn reached(answer: &serde_json::Value) -> Vec<u64> {
    answer["steps"].as_array().unwrap().iter().map(|step| number(&step["reached"])).collect()
}
