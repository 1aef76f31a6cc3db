use super::*;

/// Sections whose content is their number.
const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQ==\n-----END CERTIFICATE-----\n";
const TWO: &str = "-----BEGIN CERTIFICATE-----\nAg==\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAw==\n-----END PRIVATE KEY-----\n";

/// The content of each certificate, or the error.
fn read(pem: impl AsRef<[u8]>) -> Vec<Result<u8, String>> {
    certificates(pem.as_ref())
        .map(|found| found.map(|found| found.certificate.as_ref()[0]))
        .collect()
}

fn contents(pem: impl AsRef<[u8]>) -> Vec<u8> {
    read(pem).into_iter().map(Result::unwrap).collect()
}

#[test]
fn valid_texts_are_read() {
    let both = format!("{ONE}{TWO}");
    let mark = "\u{FEFF}";
    for pem in [
        both.clone(),
        both.replace('\n', "\r\n"),
        both.replace('\n', "\r"),
        both.trim_end().to_owned(),
        format!("{mark}{both}"),
        // Two concatenated files, each with a byte order mark.
        format!("{mark}{ONE}{mark}{TWO}"),
        format!("text\n\n{ONE}more -- text\n{TWO}the END of it"),
        format!("{KEY}{ONE}{KEY}{TWO}{KEY}"),
        format!("# {ONE}").replace('\n', "\n# ") + "\n" + &both,
        both.replace("AQ==", "A\nQ=\n=").replace("Ag==", " Ag \t"),
        both.replace("-----\n", "----- \t\n"),
        both.replace("-----B", "  -----B").replace("-----E", "\t-----E"),
        both.replace("CERTIFICATE", "X509 CERTIFICATE"),
        both.replace("CERTIFICATE", "X.509 CERTIFICATE"),
    ] {
        assert_eq!(contents(&pem), [1, 2], "{pem}");
    }
    for nothing in ["", "text", KEY, "BEGIN CERTIFICATE", "-- a list\n-- of END users"] {
        assert!(contents(nothing).is_empty(), "{nothing}");
    }
}

#[test]
fn the_error_of_an_unreadable_section_names_its_position() {
    let begin = "-----BEGIN CERTIFICATE-----";
    let end = "-----END CERTIFICATE-----";
    for (broken, said) in [
        (ONE.replace("AQ", "A!"), "(line 4) is not valid base64"),
        (ONE.replace("AQ==", "AQ==\nAQ=="), "(line 4) is not valid base64"),
        (ONE.replace("AQ==", "Name: value"), "(line 4) is not valid base64"),
        (ONE.replace(end, ""), "(line 4) has no END line"),
        (ONE.replace(end, KEY), "(line 4) has no END line"),
        (KEY.replace("-----END PRIVATE KEY-----", ""), "(line 4) has no END line"),
        (ONE.replace(begin, ""), "(line 6) has no BEGIN line"),
        (
            ONE.replace(end, "-----END PRIVATE KEY-----"),
            "(line 4) has the END line of another section",
        ),
        (
            ONE.replace(end, "-----end certificate-----"),
            "(line 4) is malformed in line 6: it is not written",
        ),
        (ONE.to_lowercase(), "(line 4) is malformed: it is not written like"),
        (
            ONE.replace(begin, "----BEGIN CERTIFICATE----"),
            "(line 4) is malformed: it is not written like",
        ),
        (
            ONE.replace(begin, "\u{2014}BEGIN CERTIFICATE\u{2014}"),
            "(line 4) is malformed: it is not written like",
        ),
        (
            ONE.replace(begin, "----- BEGIN CERTIFICATE -----"),
            "(line 4) is malformed: it is not written like",
        ),
        (format!("ca: \"{ONE}"), "(line 4) is malformed: it contains more"),
        (ONE.replace(begin, &format!("{begin} # ours")), "(line 4) is malformed: it contains more"),
        (ONE.replace('\n', "\\n"), "(line 4) is malformed: it contains more"),
        (ONE.trim_end().replace('\n', " "), "(line 4) is malformed: it contains two lines"),
        (
            format!("{}{TWO}", ONE.trim_end()),
            "(line 4) is malformed in line 6: it contains two lines",
        ),
        (
            ONE.replace("CERT", "TRUSTED CERT"),
            "(line 4) is a TRUSTED CERTIFICATE, a format of OpenSSL",
        ),
        (ONE.replace("CERTIFICATE", "PKCS7"), "(line 4) is PKCS #7"),
        (ONE.replace("CERTIFICATE", "CMS"), "(line 4) is PKCS #7"),
    ] {
        // A section of another kind comes first: all are counted.
        let found = read(format!("{KEY}{broken}"));
        let first = found.into_iter().find_map(Result::err);
        let first = first.unwrap_or_else(|| panic!("{broken} is no error"));
        assert!(first.starts_with(&format!("section 2 {said}")), "{broken}: {first}");
    }
}

#[test]
fn a_certificate_after_a_malformed_section_is_found() {
    let cut = ONE.replace("-----END CERTIFICATE-----\n", "");
    for broken in [ONE.replace("AQ", "A!"), ONE.to_lowercase(), cut] {
        let found = read(format!("{broken}{TWO}"));
        assert!(found.first().is_some_and(Result::is_err), "{found:?}");
        assert_eq!(found.last(), Some(&Ok(2)));
    }
}

#[test]
fn utf_16_has_an_error_of_its_own() {
    let wide =
        |encode: fn(u16) -> [u8; 2]| -> Vec<u8> { ONE.encode_utf16().flat_map(encode).collect() };
    let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
    for pem in
        [[&b"\xFF\xFE"[..], &little].concat(), [&b"\xFE\xFF"[..], &big].concat(), little, big]
    {
        let found = read(pem);
        assert_eq!(found.len(), 1);
        assert!(found[0].as_ref().unwrap_err().contains("UTF-16"), "{found:?}");
    }
}
