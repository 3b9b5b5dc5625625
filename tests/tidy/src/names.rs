//! Names that say nothing, words that do not belong in a finished text, and paths of one person's machine.

use crate::{code::code_only, tree::File};

/// Names that hide what a thing is. A file, folder, package or module is called by what it holds.
const EMPTY_NAMES: [&str; 10] =
    ["common", "helper", "helpers", "manager", "misc", "shared", "types", "util", "utils", "stuff"];

/// Words that do not belong in a finished text, put together here so that this file does not contain them.
const UNFINISHED: [&str; 7] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("WI", "P"),
    concat!("C", "EO"),
    concat!("A", "I"),
];

/// Roots of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("C:", "\\Users")];

/// Texts of other people, and lists that tools write.
const FOREIGN_TEXTS: [&str; 2] = ["LICENSE", "Cargo.lock"];

/// Faults of files, folders, and modules with a name that says nothing or carries a version.
pub fn empty_names(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        for part in file.path.split('/') {
            let stem = part.split('.').next().unwrap_or(part);
            if let Some(why) = bad_name(stem) {
                faults.push(format!("{}: `{stem}` {why}", file.path));
            }
        }
        let code = file.rust().map(code_only).unwrap_or_default();
        for word in
            code.lines().filter_map(|line| line.trim_start_matches("pub ").trim().strip_prefix("mod "))
        {
            let name = word.split(|character: char| !is_word(character)).next().unwrap_or_default();
            if let Some(why) = bad_name(name) {
                faults.push(format!("{}: module `{name}` {why}", file.path));
            }
        }
    }
    faults
}

fn bad_name(stem: &str) -> Option<&'static str> {
    let words: Vec<&str> = stem.split(['_', '-']).collect();
    let version = words.len() > 1
        && words.last().is_some_and(|last| {
            last.strip_prefix('v')
                .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        });
    if version {
        Some("carries a version: expand, move, delete instead")
    } else if words.iter().any(|word| EMPTY_NAMES.contains(word)) {
        Some("says nothing about what it holds")
    } else {
        None
    }
}

/// Faults of texts that are not finished or speak of how they came to be.
pub fn unfinished(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, number, line) in lines(files) {
        for word in words(line).filter(|word| UNFINISHED.contains(word)) {
            faults.push(format!("{}:{number}: says {word}", file.path));
        }
        if numbered_issue(line) {
            faults.push(format!("{}:{number}: names a numbered issue; say the reason itself", file.path));
        }
    }
    faults
}

/// Whether a line speaks of an issue by its number, as in a tracker.
fn numbered_issue(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let mut words = words(&lower).peekable();
    while let Some(word) = words.next() {
        let number = words.peek().is_some_and(|next| next.bytes().all(|byte| byte.is_ascii_digit()));
        if word == "issue" && number {
            return true;
        }
    }
    false
}

/// Faults of paths that exist on one machine only.
pub fn machine_paths(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, number, line) in lines(files) {
        for path in MACHINE_PATHS.iter().filter(|path| line.contains(**path)) {
            faults.push(format!("{}:{number}: names {path}, which exists on one machine only", file.path));
        }
    }
    faults
}

fn lines(files: &[File]) -> impl Iterator<Item = (&File, usize, &str)> {
    files.iter().filter(|file| !FOREIGN_TEXTS.contains(&file.name())).flat_map(|file| {
        let text = file.text.as_deref().unwrap_or_default();
        text.lines().enumerate().map(move |(at, line)| (file, at + 1, line))
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| !is_word(character)).filter(|word| !word.is_empty())
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_names_are_found() {
        let paths = [
            "src/utils.rs",
            "crates/common/src/lib.rs",
            "src/ingest_v2.rs",
            "src/test_helper.rs",
            "a/user-types.proto",
        ];
        for path in paths {
            assert_eq!(empty_names(&[File::planted(path, "")]).len(), 1, "{path}");
        }
        assert_eq!(empty_names(&[File::planted("src/a.rs", "pub mod manager;\n")]).len(), 1);
        assert_eq!(
            empty_names(&[File::planted("proto/runnel/event/v1/event.proto", "// mod utils\n")]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn planted_words_are_found() {
        for word in UNFINISHED {
            assert_eq!(
                unfinished(&[File::planted("a.md", &format!("One.\n{word}: two.\n"))]).len(),
                1,
                "{word}"
            );
        }
        assert_eq!(unfinished(&[File::planted("a.rs", &format!("// see {} 12", "issue"))]).len(), 1);
        assert_eq!(
            unfinished(&[File::planted("a.md", "the issued report, maintain, SAID")]),
            Vec::<String>::new()
        );
        assert_eq!(machine_paths(&[File::planted("a.py", concat!("open('/wo", "rk/x')"))]).len(), 1);
        assert_eq!(machine_paths(&[File::planted("a.py", "open('frame/work')")]), Vec::<String>::new());
    }
}
