//! Keys and images at the edges of what is allowed.

use super::{ROWS, at, read_one, write};
use anyhow::{Result, ensure};
use bytes::Bytes;
use dimsvc::{
    dimension::{Key, VersionedRow},
    store::Store,
};

pub(super) fn every_key_and_image_comes_back_as_written(store: &dyn Store) -> Result<()> {
    let long_key = format!("[\"{}\"]", "k".repeat(1 << 10));
    let keys = [
        "[\"\"]",
        "[\"a\\\"b\\\\c\"]",
        "[\"it's\",\"a:b\",null]",
        "[\"\u{5317}\u{4eac}\",\"caf\u{e9}\",\"\u{1f600}\"]",
        "[\"a\"]",
        "[\"a\",1]",
        "[-1.50,9223372036854775807,18446744073709551615]",
        long_key.as_str(),
    ];
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(1 << 20));
    let images = ["{}", "{\"name\":\"\u{5317}\u{4eac} \\u0000 'q' \\\"Q\\\"\"}", large.as_str()];
    for (version, image) in (10..).zip(images) {
        let rows = keys.iter().map(|key| VersionedRow {
            key: Key::from_canonical(key.as_bytes().to_vec()),
            version: at(version),
            image: Some(Bytes::copy_from_slice(image.as_bytes())),
        });
        write(store, ROWS, rows)?;
        for key in keys {
            let found = read_one(store, &Key::from_canonical(key.as_bytes().to_vec()), at(version + 1))?;
            let (start, bytes) = (key.chars().take(40).collect::<String>(), image.len());
            ensure!(
                found.is_some_and(
                    |row| row.version == at(version) && row.image.as_deref() == Some(image.as_bytes())
                ),
                "key {start} does not hold the image of {bytes} bytes"
            );
        }
    }
    Ok(())
}
