//! CRC-32 (the polynomial of IEEE 802.3, reflected), eight bytes at a time.

const TABLES: [[u32; 256]; 8] = tables();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "evaluated when compiling, where a fault is a compile error"
)]
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut t = 1;
    while t < 8 {
        let mut i = 0;
        while i < 256 {
            let last = tables[t - 1][i];
            tables[t][i] = tables[0][(last & 0xff) as usize] ^ (last >> 8);
            i += 1;
        }
        t += 1;
    }
    tables
}

/// The CRC-32 of bytes that come piece by piece, as zlib computes it.
pub(crate) struct Crc(u32);

impl Crc {
    pub(crate) fn new() -> Self {
        Self(u32::MAX)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
        let at = |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0);
        let mut crc = self.0;
        let (words, tail) = bytes.as_chunks::<8>();
        for &[a, b, c, d, e, f, g, h] in words {
            let [p, q, r, s] = crc.to_le_bytes();
            crc = at(t7, a ^ p)
                ^ at(t6, b ^ q)
                ^ at(t5, c ^ r)
                ^ at(t4, d ^ s)
                ^ at(t3, e)
                ^ at(t2, f)
                ^ at(t1, g)
                ^ at(t0, h);
        }
        for &byte in tail {
            let [low, ..] = crc.to_le_bytes();
            crc = at(t0, low ^ byte) ^ (crc >> 8);
        }
        self.0 = crc;
    }

    pub(crate) fn finish(self) -> u32 {
        !self.0
    }
}

/// The CRC-32 of `bytes`.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value_comes_out() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        let mut crc = Crc::new();
        [&b"1234"[..], b"", b"56789"].into_iter().for_each(|piece| crc.update(piece));
        assert_eq!(crc.finish(), 0xcbf4_3926, "in pieces");
        assert_eq!(crc32(b"The quick brown fox jumps over the lazy dog"), 0x414f_a339);
    }
}
