//! How source files are built: length, module comments, attributes, macros, scripts, size.

use crate::{code::code_only, tree::File};

/// No source file is longer, in lines.
const LONGEST: usize = 600;
/// Nine in ten Rust files are at most this long, in lines.
const LONG: usize = 400;
/// No file of the repository is larger, in bytes. Test data is made by the tests that need it.
const LARGEST: u64 = 1024 * 1024;

/// Macros that leave something to be done, or print what a person was looking for.
const LEFT_OVER: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// Faults of source files that are too long, and of a tree in which too many are long.
pub fn lengths(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut all, mut long) = (0_usize, Vec::new());
    for file in files.iter().filter(|file| matches!(file.extension(), "rs" | "py" | "proto" | "sh")) {
        let lines = file.text.as_deref().unwrap_or_default().lines().count();
        if lines > LONGEST {
            faults.push(format!("{}: {lines} lines, at most {LONGEST}", file.path));
        }
        if file.extension() == "rs" {
            all += 1;
            if lines > LONG {
                long.push(file.path.as_str());
            }
        }
    }
    if long.len() * 10 > all {
        let names = long.join(", ");
        faults.push(format!(
            "{} of {all} Rust files have over {LONG} lines, at most one in ten: {names}",
            long.len()
        ));
    }
    faults
}

/// Faults of Rust files that do not begin with a comment on what they are.
pub fn module_comments(files: &[File]) -> Vec<String> {
    rust(files)
        .filter(|(_, source)| {
            let first =
                source.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!["));
            !first.is_some_and(|line| line.starts_with("//! ") && line.len() > 10)
        })
        .map(|(file, _)| format!("{}: does not begin with a `//!` sentence", file.path))
        .collect()
}

/// Faults of attributes and macros that are not used here, and of `mod.rs` files.
pub fn habits(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, source) in rust(files) {
        if file.name() == "mod.rs" {
            faults.push(format!("{}: a module `foo` is `foo.rs` beside `foo/`", file.path));
        }
        for (at, line) in code_only(source).lines().enumerate() {
            let tight: String = line.chars().filter(|character| !character.is_whitespace()).collect();
            if tight.contains("#[allow(") || tight.contains("#![allow(") || tight.contains(",allow(") {
                faults.push(format!("{}:{}: use `#[expect(…, reason = …)]`", file.path, at + 1));
            }
            for left in LEFT_OVER.iter().filter(|left| names_macro(line, left)) {
                faults.push(format!("{}:{}: {left} is left over", file.path, at + 1));
            }
        }
    }
    faults
}

fn names_macro(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

/// Faults of scripts that cannot be run, and of executable files that are no scripts.
pub fn scripts(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let shebang = file.text.as_deref().is_some_and(|text| text.starts_with("#!/usr/bin/env "));
        let named = matches!(file.path.as_str(), ".ci/run" | "tests/run" | "tests/figures")
            || file.extension() == "sh";
        if (named || file.executable) && !shebang {
            faults.push(format!("{}: does not begin with `#!/usr/bin/env …`", file.path));
        }
        if (named || shebang) && !file.executable {
            faults.push(format!("{}: is not executable", file.path));
        }
    }
    faults
}

/// Faults of files that are too large to keep.
pub fn sizes(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.bytes > LARGEST)
        .map(|file| format!("{}: {} bytes, at most {LARGEST}", file.path, file.bytes))
        .collect()
}

fn rust(files: &[File]) -> impl Iterator<Item = (&File, &str)> {
    files.iter().filter_map(|file| Some((file, file.rust()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_found() {
        let lines = |path: &str, count: usize| File::planted(path, &"x\n".repeat(count));
        assert_eq!(lengths(&[lines("a.py", 600)]).len(), 0);
        assert_eq!(lengths(&[lines("a.proto", 601)]).len(), 1);
        let mut tree: Vec<File> = (0..9).map(|at| lines(&format!("{at}.rs"), 400)).collect();
        tree.push(lines("long.rs", 401));
        assert_eq!(lengths(&tree).len(), 0);
        tree.push(lines("longer.rs", 401));
        assert_eq!(lengths(&tree).len(), 1);
    }

    #[test]
    fn missing_module_comments_are_found() {
        assert_eq!(module_comments(&[File::planted("a.rs", "use b;\n//! Too late.\n")]).len(), 1);
        assert_eq!(module_comments(&[File::planted("a.rs", "")]).len(), 1);
        assert_eq!(module_comments(&[File::planted("a.rs", "\n//! What this is.\n")]).len(), 0);
    }

    #[test]
    fn habits_are_found_in_code_and_not_in_prose() {
        for planted in ["#[allow(dead_code)]\n", "#![ allow(x)]\n", "#[cfg_attr(a, allow(x))]\n"] {
            assert_eq!(habits(&[File::planted("a.rs", planted)]).len(), 1, "{planted}");
        }
        let prose = "const A: &str = \"#[allow(\";\n";
        assert_eq!(habits(&[File::planted("a.rs", prose)]), Vec::<String>::new());
        for left in LEFT_OVER {
            let faults = |before: &str| habits(&[File::planted("a.rs", &format!("{before}{left}(1);\n"))]);
            assert_eq!(faults("let a = ").len(), 1, "{left}");
            assert_eq!(faults("// "), Vec::<String>::new(), "{left}");
            assert_eq!(faults("my_"), Vec::<String>::new(), "{left}");
        }
        assert_eq!(habits(&[File::planted("a/mod.rs", "")]).len(), 1);
    }

    #[test]
    fn scripts_that_do_not_run_are_found() {
        assert_eq!(scripts(&[File::planted("tests/run", "echo\n")]).len(), 2);
        let mut script = File::planted("tools/a.sh", "#!/usr/bin/env bash\n");
        assert_eq!(scripts(&[script.clone()]).len(), 1);
        script.executable = true;
        assert_eq!(scripts(&[script]).len(), 0);
        assert_eq!(sizes(&[File { bytes: LARGEST + 1, ..File::planted("a.bin", "") }]).len(), 1);
    }
}
