//! Section `notes`: what was done to the model that who uses the artifact may want to know. A reader may skip it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::FormatError;
use crate::cursor::{Cursor, put_count, put_text};

/// The largest number of notes.
const MAX_NOTES: u64 = 1 << 16;

/// A remark under a key.
pub type Note = (String, String);

pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Vec<Note>, FormatError> {
    let n = cursor.count("notes", MAX_NOTES, 8)?;
    let mut notes = Vec::with_capacity(n);
    for _ in 0..n {
        notes.push((cursor.text()?, cursor.text()?));
    }
    Ok(notes)
}

pub(crate) fn write(notes: &[Note], out: &mut Vec<u8>) {
    put_count(out, notes.len());
    for (key, value) in notes {
        put_text(out, key);
        put_text(out, value);
    }
}
