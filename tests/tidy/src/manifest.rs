//! Reads the few things of a `Cargo.toml` that the rules need: sections, keys, and lists of strings.
//!
//! This is not TOML. It reads manifests as people write them here: one key a line, lists over one or several lines.

/// One `key = value` line, with the section it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section's name, for example `dependencies` or `target.'cfg(unix)'.dependencies`.
    pub section: String,
    /// The key as written, for example `runnel-model.workspace`.
    pub key: String,
    /// The value as written, lists joined into one line.
    pub value: String,
}

impl Entry {
    /// For an entry of a table of dependencies: the name of the package that it names.
    pub fn package(&self) -> String {
        let renamed = self.value.split_once("package = \"").and_then(|(_, rest)| rest.split_once('"'));
        renamed.map_or_else(
            || self.key.split('.').next().unwrap_or(&self.key).to_owned(),
            |(name, _)| name.to_owned(),
        )
    }
}

/// The entries of a manifest in the order in which they stand.
pub fn entries(text: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut section = String::new();
    let mut open = false;
    for line in text.lines() {
        let line = without_comment(line).trim();
        if open {
            if let Some(last) = found.last_mut() {
                last.value.push_str(line);
                open = unbalanced(&last.value);
            }
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.trim_matches(['[', ']']).trim().clone_into(&mut section);
            // `[dependencies.name]` is a dependency written as a section of its own.
            if let Some((table, name)) = section.rsplit_once('.').filter(|(table, _)| is_dependencies(table))
            {
                found.push(Entry { section: table.into(), key: name.into(), value: "{}".into() });
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let entry = Entry { section: section.clone(), key: unquoted(key), value: value.trim().into() };
            open = unbalanced(&entry.value);
            found.push(entry);
        }
    }
    found
}

/// Whether a section lists dependencies of any sort.
pub fn is_dependencies(section: &str) -> bool {
    section.rsplit('.').next().is_some_and(|last| last == "dependencies" || last.ends_with("-dependencies"))
}

/// The strings of a list such as `["a", "b"]`.
pub fn strings(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn unbalanced(value: &str) -> bool {
    value.matches(['[', '{']).count() > value.matches([']', '}']).count()
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

fn unquoted(key: &str) -> String {
    key.trim().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keys_and_lists() {
        let text = "[workspace]\nmembers = [ # all\n  \"a\",\n  \"b#c\",\n]\n[dependencies]\nx.workspace = true\ny = { version = \"1\", package = \"z\" }\n\
                    [target.'cfg(unix)'.dependencies]\nw = \"1\"\n[dependencies.v]\nworkspace = true\n";
        let all = entries(text);
        assert_eq!(strings(&all[0].value), ["a", "b#c"]);
        let named: Vec<String> =
            all.iter().filter(|entry| is_dependencies(&entry.section)).map(Entry::package).collect();
        assert_eq!(named, ["x", "z", "w", "v"]);
        assert_eq!(all[3].section, "target.'cfg(unix)'.dependencies");
    }
}
