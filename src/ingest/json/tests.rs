use super::*;
use proptest::prelude::*;

fn check(text: &str) -> Result<(), Fault> {
    let arena = Bump::new();
    let mut reader = Reader::new(text, &arena);
    let read = reader.skip().and_then(|()| reader.end());
    read.map_err(|Invalid| reader.fault())
}

#[test]
fn reads_what_rfc_8259_allows() {
    for text in [
        "{}",
        " [ ] ",
        "\"\u{7f}é\"",
        "-0",
        "0.5e-7",
        "1E+400",
        "[1,[2,{\"a\":null}]]",
        "\t\ntrue\r ",
        r#""\ud83d\ude00""#,
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
    let long = "9".repeat(20_000);
    assert_eq!(check(&long), Ok(()));
    let deep = format!("{}{}", "[".repeat(32), "]".repeat(32));
    assert_eq!(check(&deep), Ok(()));
}

#[test]
fn refuses_all_else() {
    for text in [
        "",
        " ",
        "{",
        "[",
        "\"",
        "tru",
        "nul",
        "truex",
        "01",
        "-",
        "1.",
        ".5",
        "+1",
        "1e",
        "1e+",
        "NaN",
        "Infinity",
        "'a'",
        "{a:1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "[1,]",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "[,]",
        "1 2",
        "{} x",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        r#""\ud800""#,
        r#""\ud800\u0041""#,
        r#""\udc00""#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"b":{"a":1,"c":2,"a":2}}]"#,
        "\u{feff}{}",
        "/**/1",
        "\"\\",
        "\"\\u",
    ] {
        assert!(check(text).is_err(), "{text}");
    }
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    assert!(check(&deep).is_err());
}

#[test]
fn resolves_escapes() {
    let arena = Bump::new();
    let mut reader = Reader::new(r#""a\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00z long enough to span words""#, &arena);
    assert_eq!(reader.string(), Ok("a\"\\/\u{8}\u{c}\n\r\té😀z long enough to span words"));
}

proptest! {
    /// Where serde_json and this reader may differ: serde_json refuses numbers out of f64's range and deeper nesting than
    /// 128, and lets repeated names pass. Neither appears in these texts.
    #[test]
    fn agrees_with_serde_json(text in r#"[\[\]{}:,"\\u0-9a-fDtrue.\-+E \n\u{e9}]{0,12}"#) {
        let known: Result<serde_json::Value, _> = serde_json::from_str(&text);
        let ours = check(&text);
        let repeated = matches!(ours, Err(Fault { expected: "no repeated name in an object", .. }));
        let range = text.contains(['e', 'E']);
        prop_assert!(known.is_ok() == ours.is_ok() || repeated || range, "{text:?}: {known:?}, {ours:?}");
    }

    #[test]
    fn strings_are_those_of_serde_json(text in any::<String>()) {
        let written = serde_json::to_string(&text).expect("a string can be written");
        let arena = Bump::new();
        prop_assert_eq!(Reader::new(&written, &arena).string(), Ok(text.as_str()));
    }
}
