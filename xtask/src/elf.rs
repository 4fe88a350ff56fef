//! What an ELF file says of itself: its machine, and the versions of glibc that it needs.

use anyhow::{Context, Result, ensure};

/// The machine of a file.
///
/// # Errors
/// When it is not a 64-bit little-endian ELF file.
pub(crate) fn machine(bytes: &[u8]) -> Result<u16> {
    let head = bytes.get(..20).context("is too short for an ELF file")?;
    ensure!(head.starts_with(b"\x7fELF\x02\x01"), "is not a 64-bit little-endian ELF file");
    let machine = head.get(18..20).context("is too short for an ELF file")?;
    Ok(u16::from_le_bytes(machine.try_into()?))
}

/// The newest glibc that a file needs, as (2, 28). Its names of versions stand as text in the file.
pub(crate) fn glibc(bytes: &[u8]) -> Option<(u32, u32)> {
    const NAME: &[u8] = b"GLIBC_";
    let versions = bytes.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    versions.filter_map(|(at, _)| version(bytes.get(at + NAME.len()..)?)).max()
}

/// The version that `text` begins with, as (2, 28).
pub(crate) fn version(text: &[u8]) -> Option<(u32, u32)> {
    let text: String = text
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.')
        .map(|byte| char::from(*byte))
        .collect();
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_newest_version_counts() {
        assert_eq!(glibc(b"..GLIBC_2.4\0GLIBC_2.28\0GLIBC_2.2.5\0GLIBC_PRIVATE"), Some((2, 28)));
        assert_eq!(glibc(b"nothing"), None);
    }

    #[test]
    fn this_program_is_an_elf_file_of_this_machine() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let wanted = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        assert_eq!(machine(&program).unwrap(), wanted);
        assert!(machine(b"#!/bin/sh").is_err());
    }
}
