//! Rust source without its comments and literals, so that a rule about code does not stumble over prose.

/// The source with every comment and every literal's content blanked by spaces. Lines stay where they are.
pub fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut kept = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end > at {
            kept.extend(bytes[at..end].iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            kept.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    match rest[0] {
        b'/' if rest.starts_with(b"//") => find(bytes, at, b"\n"),
        b'/' if rest.starts_with(b"/*") => block_end(bytes, at),
        b'"' => quoted_end(bytes, at + 1, b'"'),
        b'r' if !follows_name(bytes, at) => raw_end(bytes, at).unwrap_or(at),
        b'\'' => char_end(bytes, at),
        _ => at,
    }
}

fn follows_name(bytes: &[u8], at: usize) -> bool {
    // The `r` of `br"…"` starts a raw literal, the one at the end of a name does not.
    match at.checked_sub(1).map(|before| bytes[before]) {
        Some(b'b') => at >= 2 && is_name(bytes[at - 2]),
        Some(before) => is_name(before),
        None => false,
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `needle` starts at or after `from`, or the end of the source.
fn find(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    (from..bytes.len()).find(|&at| bytes[at..].starts_with(needle)).unwrap_or(bytes.len())
}

/// Block comments nest.
fn block_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_u32);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    Some((find(bytes, at + 2 + hashes, &close) + close.len()).min(bytes.len()))
}

/// A quote starts a character unless it starts a lifetime: `'a'` and `'\n'`, not `'a`.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match (bytes.get(at + 1), bytes.get(at + 2)) {
        (Some(b'\\'), _) => quoted_end(bytes, at + 1, b'\''),
        (Some(first), Some(b'\'')) if *first != b'\'' => at + 3,
        (Some(first), _) if !first.is_ascii() => quoted_end(bytes, at + 1, b'\''),
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_vanish_and_code_stays() {
        let source = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# l 'm' '\\'' <'n> br\"o\" p";
        let words: Vec<String> = code_only(source).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["a", "e", "i", "l", "<'n>", "b", "p"]);
    }

    #[test]
    fn lines_stay_where_they_are() {
        let source = "x\n/*\n\n*/ y \"\n\" z\n";
        let code = code_only(source);
        assert_eq!(code.lines().count(), source.lines().count());
        assert!(code.lines().nth(3).unwrap().contains('y'));
    }

    #[test]
    fn damaged_source_ends_quietly() {
        for source in ["\"", "'", "/*", "r#\"", "r", "'\\", "\"\\", "'ä", "b'"] {
            assert_eq!(code_only(source).len(), source.len(), "{source}");
        }
    }
}
