//! Looks for texts wherever a deployment keeps something: files, tables, hot state.

use std::{fs, path::Path};

use runnel_harness::{Deployment, Postgres, Redis};

/// Where one of the texts is, as bytes or as hexadecimal digits. What is compressed is decompressed where it lies in one piece.
pub(crate) fn found(server: &Deployment, texts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |place: &str, bytes: &[u8]| {
        for text in texts {
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            if contains(bytes, text.as_bytes()) || contains(bytes, hex.as_bytes()) {
                found.push(format!("{text} in {place}"));
            }
        }
    };
    files(server.folder(), &mut |path, bytes| {
        look(&path.display().to_string(), bytes);
        frames(bytes, &mut |frame| look(&format!("a frame in {}", path.display()), frame));
    });
    if let (Some(postgres), Some(database)) = (&server.stores().postgres, server.database()) {
        tables(postgres, database, &mut look);
    }
    if let Some(redis) = &server.stores().redis {
        hot(redis, &mut look);
    }
    found
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}

fn files(folder: &Path, each: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, each);
        } else if let Ok(bytes) = fs::read(&path) {
            each(&path, &bytes);
        }
    }
}

/// Everything in bytes that decompresses.
fn frames(bytes: &[u8], each: &mut impl FnMut(&[u8])) {
    const MARK: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    for at in memchr::memmem::find_iter(bytes, &MARK) {
        let mut frame = Vec::new();
        let decoder = zstd::Decoder::new(&bytes[at..]).map(zstd::Decoder::single_frame);
        if let Ok(mut decoder) = decoder {
            // As much of it as can be read.
            drop(std::io::copy(&mut decoder, &mut frame));
            each(&frame);
        }
    }
}

fn tables(postgres: &Postgres, database: &str, look: &mut impl FnMut(&str, &[u8])) {
    postgres.sql(database, "VACUUM FULL").unwrap();
    let names = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                 WHERE relkind = 'r' AND nspname = 'public'";
    for table in postgres.sql(database, names).unwrap().lines() {
        let rows = postgres.sql(database, &format!("SELECT t::text FROM \"{table}\" t")).unwrap();
        look(table, rows.as_bytes());
        // Bytes are told in hexadecimal digits.
        let bytes = hex(&rows);
        frames(&bytes, &mut |frame| look(&format!("a frame in {table}"), frame));
    }
}

/// What the hexadecimal digits of a text say.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().collect();
    let mut bytes = Vec::new();
    for part in digits.split(|digit| !digit.is_ascii_hexdigit()) {
        for pair in part.as_chunks::<2>().0 {
            bytes.extend(std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
        }
    }
    bytes
}

fn hot(redis: &Redis, look: &mut impl FnMut(&str, &[u8])) {
    for node in 0..redis.nodes() {
        let keys = redis.cli(node, &["KEYS", "*"]).unwrap();
        look("keys of the hot store", keys.as_bytes());
        for key in keys.lines().filter(|key| !key.is_empty()) {
            let value = redis.cli(node, &["DUMP", key]).unwrap();
            look("the hot store", value.as_bytes());
        }
    }
}
