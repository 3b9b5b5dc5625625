//! Identifiers as ad networks compare them. The rules are those that Google publishes for user data in its Data Manager API and Customer Match: what is the same person in two
//! spellings has one hash.

use runnel_chassis::seal::hex;
use sha2::{Digest as _, Sha256};

/// Longest e-mail address, in bytes: 64 before the @ and 255 behind it.
const EMAIL_BYTES: usize = 320;
/// Digits of a phone number with its country code, by E.164.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// SHA-256 of a text, in lower-case hexadecimal digits.
pub(super) fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// An e-mail address in the spelling that is hashed; `None` for what is none.
pub(super) fn email(text: &str) -> Option<String> {
    let text: String = text.split_whitespace().collect::<String>().to_lowercase();
    let (local, domain) = text.split_once('@')?;
    if domain.is_empty() || domain.contains('@') || text.len() > EMAIL_BYTES {
        return None;
    }
    let local = match domain {
        // Mail to all these spellings reaches one mailbox there.
        "gmail.com" | "googlemail.com" => local.split('+').next().unwrap_or_default().replace('.', ""),
        _ => local.to_owned(),
    };
    (!local.is_empty()).then(|| format!("{local}@{domain}"))
}

/// A phone number by E.164; `None` for what is none, or does not say by + or 00 that it begins with a country code: a number within one country may be somebody else's in
/// another.
pub(super) fn phone(text: &str) -> Option<String> {
    // The digit of long-distance calls within a country, which is not dialled from abroad.
    let text = text.trim().replace("(0)", "");
    let number = text.strip_prefix('+').or_else(|| text.strip_prefix("00"))?;
    let mut digits = String::new();
    for sign in number.chars() {
        match sign {
            '0'..='9' => digits.push(sign),
            ' ' | '\u{a0}' | '-' | '.' | '/' | '(' | ')' => {}
            _ => return None,
        }
    }
    // No country code begins with 0.
    (PHONE_DIGITS.contains(&digits.len()) && !digits.starts_with('0')).then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the tests and guides that Google publishes beside its Data Manager API.
    #[test]
    fn hashes_are_the_published_ones() {
        let hashed = |found: Option<String>| found.map(|text| hash(&text)).unwrap();
        for text in ["alexz@example.com", " Alex Z@Example.com\n"] {
            let expected = "509e933019bb285a134a9334b8bb679dff79d0ce023d529af4bd744d47b4fd8a";
            assert_eq!(hashed(email(text)), expected);
        }
        for text in ["test@gmail.com", "T.e.s.t+shop@Gmail.com"] {
            let expected = "87924606b4131a8aceeeae8868531fbb9712aaa07a5d3a756b26ce0f5d6ca674";
            assert_eq!(hashed(email(text)), expected);
        }
        for text in ["+18005550100", "+1 (800) 555-0100", "001 800/555.0100"] {
            let expected = "fb4f73a6ec5fdb7077d564cdd22c3554b43ce49168550c3b12c547b78c517b30";
            assert_eq!(hashed(phone(text)), expected);
        }
    }

    #[test]
    fn addresses_are_spelt_in_one_way() {
        for (given, expected) in [
            ("QuinnY@EXAMPLE.com", "quinny@example.com"),
            ("user.name+NYC@Example.com", "user.name+nyc@example.com"),
            ("j.e.f..ferson.Loves.hiking@gmail.com", "jeffersonloveshiking@gmail.com"),
            ("jefferson.Loves.hiking@googlemail.com", "jeffersonloveshiking@googlemail.com"),
            ("cloudy.sanfrancisco+shopping@gmail.com", "cloudysanfrancisco@gmail.com"),
        ] {
            assert_eq!(email(given).as_deref(), Some(expected));
        }
        for bad in ["", "quinn", "@example.com", "quinn@", "a@b@c.com", "+all@gmail.com", "...@gmail.com"] {
            assert_eq!(email(bad), None, "{bad}");
        }
        assert_eq!(email(&format!("{}@example.com", "a".repeat(400))), None);
    }

    #[test]
    fn numbers_without_a_country_are_none() {
        for (given, expected) in
            [("+44-113-496-0987", "+441134960987"), ("+44 (0)113 496 0987", "+441134960987")]
        {
            assert_eq!(phone(given).as_deref(), Some(expected));
        }
        for bad in [
            "",
            "+",
            "030 1234567",
            "(212) 555-0100",
            "+0301234567",
            "+123456",
            "+1234567890123456",
            "+49 30 CALLME",
        ] {
            assert_eq!(phone(bad), None, "{bad}");
        }
    }
}
