//! A gzip file of uncompressed blocks (RFC 1951, 3.2.4; RFC 1952).

/// The longest uncompressed block.
const BLOCK_MAX: usize = 0xffff;

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut left = content;
    loop {
        let (block, rest) = left.split_at(left.len().min(BLOCK_MAX));
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        file.push(u8::from(rest.is_empty())); // whether it is the last
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&(!length).to_le_bytes());
        file.extend_from_slice(block);
        if rest.is_empty() {
            break;
        }
        left = rest;
    }
    file.extend_from_slice(&crc32(content).to_le_bytes());
    let length = content.len() as u64 as u32; // modulo 2^32 by the format
    file.extend_from_slice(&length.to_le_bytes());
    file
}

fn crc32(content: &[u8]) -> u32 {
    let mut crc = !0;
    for byte in content {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = 0u32.wrapping_sub(crc & 1);
            crc = (crc >> 1) ^ (0xedb8_8320 & carry);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_crc() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn long_contents_are_cut_into_blocks() {
        for (length, blocks) in [(0, 1), (1, 1), (65_535, 1), (65_536, 2), (200_000, 4)] {
            let file = gzip(&vec![b'x'; length]);
            assert_eq!(file.len(), 10 + 5 * blocks + length + 8, "{length}");
        }
    }
}
