//! Reading PEM certificates (RFC 7468) without skipping any silently.
//!
//! The PEM readers of TLS libraries skip what they do not understand: a byte order mark hides the first
//! certificate, a missing line end the second, and no error appears before a handshake fails. Here everything
//! that looks like a section is read or is an error. Text around the sections, and other sections such as
//! private keys, are skipped.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::pki_types::CertificateDer;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const CLOSE: &[u8] = b"-----";
const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// As lenient about padding as OpenSSL.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A certificate and its position.
pub(crate) struct Found {
    pub(crate) position: Position,
    pub(crate) certificate: CertificateDer<'static>,
}

/// The position of a section among all sections, from 1, and its first line.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    section: usize,
    line: usize,
}

impl Position {
    /// A message about this section.
    pub(crate) fn says(self, what: &str) -> String {
        format!("section {} (line {}) {what}", self.section, self.line)
    }
}

/// The certificates of a PEM text in order, and an error for each section that cannot be read.
pub(crate) fn certificates(pem: &[u8]) -> impl Iterator<Item = Result<Found, String>> {
    let (error, readable) = if is_utf16(pem) {
        (Some(Err("it is UTF-16, not PEM: save it as ASCII or UTF-8".to_owned())), &[][..])
    } else {
        (None, pem)
    };
    error.into_iter().chain(Reader::new(readable))
}

/// Why a text contains no certificate.
pub(crate) fn why_none(text: &[u8]) -> &'static str {
    // A SEQUENCE of more than 255 bytes, like every certificate.
    if text.starts_with(&[0x30, 0x82]) {
        "it is DER, not PEM: convert it with `openssl x509 -inform DER -in FILE -out FILE`"
    } else {
        "it contains no \"-----BEGIN CERTIFICATE-----\""
    }
}

fn is_utf16(pem: &[u8]) -> bool {
    pem.starts_with(b"\xFF\xFE")
        || pem.starts_with(b"\xFE\xFF")
        || (pem.contains(&0) && contains(pem, b"B\0E\0G\0I\0N"))
}

struct Reader<'a> {
    lines: Lines<'a>,
    sections: usize,
    open: Option<Open<'a>>,
}

/// A section without its END line so far.
struct Open<'a> {
    position: Position,
    label: &'a [u8],
    base64: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(pem: &'a [u8]) -> Self {
        Self { lines: Lines { rest: pem, count: 0 }, sections: 0, open: None }
    }

    /// Counts a section that begins in this line.
    fn begin(&mut self) -> Position {
        self.sections += 1;
        Position { section: self.sections, line: self.lines.count }
    }

    /// Handles a line; returns the certificate or the error that it completes.
    fn take(&mut self, line: &'a [u8]) -> Option<Result<Found, String>> {
        match Line::of(line) {
            Line::Text => {
                if let Some(open) = self.open.as_mut().filter(|open| is_certificate(open.label)) {
                    open.base64.extend_from_slice(line.trim_ascii());
                }
                None
            }
            Line::Begin(label) => {
                let position = self.begin();
                let before = self.open.replace(Open { position, label, base64: Vec::new() });
                before.map(|open| Err(open.without_end()))
            }
            Line::End(label) => Some(match self.open.take() {
                Some(open) if open.label == label => return open.read().transpose(),
                Some(open) => Err(open.position.says("has the END line of another section")),
                None => Err(self.begin().says("has no BEGIN line")),
            }),
            Line::Malformed(why) => Some(Err(match self.open.take() {
                Some(open) => {
                    let line = self.lines.count;
                    open.position.says(&format!("is malformed in line {line}: {why}"))
                }
                None => self.begin().says(&format!("is malformed: {why}")),
            })),
        }
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Found, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(line) = self.lines.next() {
            if let Some(found) = self.take(line) {
                return Some(found);
            }
        }
        self.open.take().map(|open| Err(open.without_end()))
    }
}

impl Open<'_> {
    /// The certificate in it; `None` for another kind of section.
    fn read(mut self) -> Result<Option<Found>, String> {
        if !is_certificate(self.label) {
            return match self.label {
                b"TRUSTED CERTIFICATE" => Err(self.position.says(
                    "is a TRUSTED CERTIFICATE, a format of OpenSSL: convert it with \
                     `openssl x509 -in FILE -out FILE`",
                )),
                b"PKCS7" | b"CMS" | b"PKCS #7 SIGNED DATA" => Err(self.position.says(
                    "is PKCS #7: extract its certificates with \
                     `openssl pkcs7 -print_certs -in FILE -out FILE`",
                )),
                _ => Ok(None),
            };
        }
        self.base64.retain(|byte| !byte.is_ascii_whitespace());
        match BASE64.decode(&self.base64) {
            Ok(der) => Ok(Some(Found { position: self.position, certificate: der.into() })),
            Err(_) => Err(self.position.says("is not valid base64")),
        }
    }

    fn without_end(self) -> String {
        self.position.says("has no END line")
    }
}

/// Including the equivalent labels of old programs (RFC 7468, 5.1).
fn is_certificate(label: &[u8]) -> bool {
    matches!(label, b"CERTIFICATE" | b"X509 CERTIFICATE" | b"X.509 CERTIFICATE")
}

enum Line<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
    /// A malformed BEGIN or END line.
    Malformed(&'static str),
    Text,
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        // A fast path for the many lines of base64.
        if line.is_ascii() && !line.contains(&b'-') {
            return Self::Text;
        }
        // Concatenated files have byte order marks in the middle.
        let line = line.strip_prefix(UTF8_MARK).unwrap_or(line).trim_ascii();
        for (start, kind) in [(BEGIN, Self::Begin as fn(_) -> _), (END, Self::End)] {
            let label = line.strip_prefix(start).and_then(|rest| rest.strip_suffix(CLOSE));
            match label {
                Some(label) if !contains(label, CLOSE) => return kind(label),
                Some(_) => {
                    return Self::Malformed(
                        "it contains two lines without a line end between them",
                    );
                }
                None => {}
            }
        }
        match line.first() {
            None | Some(b'#') => Self::Text,
            _ if contains(line, BEGIN) || contains(line, END) => {
                Self::Malformed("it contains more than its BEGIN or END")
            }
            Some(b'-' | 0x80..) if is_meant(line) => {
                Self::Malformed("it is not written like -----BEGIN CERTIFICATE-----")
            }
            _ => Self::Text,
        }
    }
}

/// Whether a line that begins with any kind of dash is meant as a BEGIN or END line.
fn is_meant(line: &[u8]) -> bool {
    let line = line.to_ascii_uppercase();
    contains(&line, b"CERTIFICATE") && (contains(&line, b"BEGIN") || contains(&line, b"END"))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Lines that end with LF, CR LF, or CR, counted from 1.
struct Lines<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.count += 1;
        let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest
            .strip_prefix(b"\r\n")
            .or_else(|| rest.split_first().map(|(_, rest)| rest))
            .unwrap_or_default();
        Some(line)
    }
}

#[cfg(test)]
mod tests;
