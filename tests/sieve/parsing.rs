//! Reading scripts: places of mistakes, and that any text has a defined result.

use std::path::Path;

use proptest::prelude::*;
use sekimori::config::Config;
use sekimori::sieve::import::import;
use sekimori::sieve::parse;

#[test]
fn mistakes_have_their_place() {
    let check = |text: &str, line: u32, col: u32, words: &str| {
        let error = parse(text).expect_err(text);
        assert_eq!(
            (error.place.line, error.place.col),
            (line, col),
            "{text}: {error}"
        );
        assert!(error.message.contains(words), "{text}: {error}");
    };
    check("keep", 1, 5, "`;`");
    check("keep;\n  }", 2, 3, "closes nothing");
    check("if true {\n keep;\n", 3, 1, "`}`");
    check("if true {\n keep; ]", 2, 8, "a command");
    check("redirect \"a@b", 1, 10, "closing `\"`");
    check("vacation text:\nabc\n", 1, 14, "only a dot");
    check("vacation text: x\n.\n;", 1, 14, "new line");
    check("/* a\n", 1, 1, "`*/`");
    check("size :over 10X;", 1, 12, "K, M, G");
    check("size :over 99999999999999999999;", 1, 12, "64 bits");
    check("if size : over 1 {}", 1, 9, "behind `:`");
    check("if header [\"a\" \"b\"] \"c\" {}", 1, 16, "`]`");
    check("if header [] \"c\" {}", 1, 12, "a string");
    check("if anyof (true, ) {}", 1, 17, "a test");
    check("keep; else {}", 1, 7, "behind an `if`");
    check("if true {} else {} elsif true {}", 1, 20, "behind an `if`");
    check("é;", 1, 1, "begins no word");
    check("From: a@b\n\nHello", 1, 5, "behind `:`");
    check(
        &format!("if {}", "not ".repeat(40)),
        1,
        4 + 32 * 4,
        "nested deeper than 32",
    );
}

#[test]
fn what_scripts_are_made_of() {
    let check = |text: &str, expected: &str| {
        assert_eq!(parse(text).expect(text).to_string(), expected, "{text}");
    };
    check("", "");
    check("\u{feff}KEEP ;", "keep;\n");
    check(
        "# one\n#two\r\n/* three\n four */ stop;",
        "# one\n# two\n# three\n# four\nstop;\n",
    );
    check("discard; # behind\nkeep;", "discard;\n# behind\nkeep;\n");
    check("if size :OVER 2K {}", "if size :over 2048 {\n}\n");
    check("a \"q\\\"\\\\\\x\";", "a \"q\\\"\\\\x\";\n");
    check(
        "a text: # why\r\nline\r\n..dot\r\n.\r\n;",
        "a \"line\n.dot\n\";\n",
    );
    check("a text:\n.\n;", "a \"\";\n");
    check(
        "if not anyof(true,false){a[\"b\" , \"c\"];}",
        "if not anyof (\n  true,\n  false) {\n  a [\"b\", \"c\"];\n}\n",
    );
}

/// Pieces of scripts, in an order that often is one.
fn script() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just("\"subject\"".to_owned()),
        Just("\"from\"".to_owned()),
        Just("\"広告\"".to_owned()),
        Just("\"*@spam.example\"".to_owned()),
        Just("\"a@b.example\"".to_owned()),
        Just("[\"x y\", \" z \", \"\\\\*\"]".to_owned()),
        Just("text:\nHello ${subject}\n..\n.\n".to_owned()),
        "\"[a-z@*?.\u{2028} \u{7f}é]{0,6}\"",
    ];
    let kind = prop::sample::select(vec![
        "",
        ":is",
        ":contains",
        ":matches",
        ":all :is",
        ":domain :is",
        ":domain :matches",
        ":regex",
    ]);
    let leaf = prop_oneof![
        (
            prop::sample::select(vec!["header", "address", "envelope"]),
            kind,
            text.clone(),
            text.clone()
        )
            .prop_map(|(test, kind, a, b)| format!("{test} {kind} {a} {b}")),
        text.clone().prop_map(|a| format!("exists {a}")),
        (0_u64..4000).prop_map(|n| format!("size :over {n}")),
        (0_u64..4).prop_map(|n| format!("size :under {n}K")),
        Just("true".to_owned()),
        Just("false".to_owned()),
        (prop::sample::select(vec!["ge", "gt", "le", "lt", "eq"]), 2025_u32..2028, 1_u32..13).prop_map(
            |(relation, year, month)| format!(
                "allof (currentdate :value \"{relation}\" \"date\" \"{year}-{month:02}-28\", currentdate :value \"le\" \"date\" \"2026-12-30\")"
            )
        ),
        Just(
            "currentdate :zone \"+0900\" :value \"lt\" \"iso8601\" \"2027-01-04T00:00:00Z\""
                .to_owned()
        ),
    ];
    let test = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|test| format!("not {test}")),
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|tests| format!("anyof ({})", tests.join(", "))),
            prop::collection::vec(inner, 1..4)
                .prop_map(|tests| format!("allof ({})", tests.join(", "))),
        ]
    });
    let action = prop_oneof![
        Just("keep;".to_owned()),
        Just("stop;".to_owned()),
        Just("discard;".to_owned()),
        Just("fileinto \"INBOX.Junk\";".to_owned()),
        Just("fileinto \"Lists\";".to_owned()),
        Just("redirect :copy \"a@b.example\";".to_owned()),
        Just("redirect \"c@d.example\";".to_owned()),
        Just("redirect :copy \"x@y.example\";".to_owned()),
        Just("addflag \"\\\\Seen\";".to_owned()),
        Just("notify \"mailto:a@b.example\";".to_owned()),
        text.clone().prop_map(|text| format!("redirect {text};")),
        (text.clone(), text).prop_map(|(a, b)| format!(
            "vacation :days 2 :subject {a} :addresses [\"x@y.example\"] {b};"
        )),
        Just("set \"a\" \"b\";".to_owned()),
    ];
    let block = prop::collection::vec(action.clone(), 0..4).prop_map(|actions| actions.join(" "));
    let command = prop_oneof![
        action,
        (
            test.clone(),
            block.clone(),
            test,
            block,
            any::<bool>(),
            any::<bool>()
        )
            .prop_map(|(test, block, other, second, elsif, otherwise)| {
                let elsif = if elsif {
                    format!("elsif {other} {{ {second} }}")
                } else {
                    String::new()
                };
                let otherwise = if otherwise {
                    format!("else {{ {second} }}")
                } else {
                    String::new()
                };
                format!("# rule:[a \"name\"]\nif {test} {{ {block} }} {elsif} {otherwise}")
            }),
    ];
    prop::collection::vec(command, 0..8)
        .prop_map(|commands| format!("require \"variables\";\n{}", commands.join("\n")))
}

proptest! {
    #[test]
    fn any_text(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_words(text in "(if|elsif|keep|header|text:|:is|[{}()\\[\\],;]|\"a\"|\"\\\\\"\"|12K|#x\n|/\\*|\\*/|\n\\.\n| ){0,30}") {
        if let Ok(script) = parse(&text) {
            prop_assert_eq!(parse(&script.to_string()).unwrap(), script);
        }
    }

    #[test]
    fn a_script_written_out_is_the_same_script(text in script()) {
        let script = parse(&text).unwrap();
        prop_assert_eq!(parse(&script.to_string()).unwrap(), script);
    }

    /// Whatever a script says, what is made of it counts as settings.
    #[test]
    fn an_import_is_always_settings(text in script(), named in any::<bool>()) {
        let script = parse(&text).unwrap();
        let owner = sekimori::mail::Address::parse("taro@east.example.jp").unwrap();
        let import = import(&script, named.then_some(&owner));
        let folder = Path::new("/nonexistent");
        let config = Config::parse("version: 1", folder).unwrap().config;
        let text = if named { import.settings } else { format!("{}mailbox: nobody@localhost.invalid\n", import.settings) };
        let read = config.parse_mailbox(&text, &folder.join("imported.yaml"));
        prop_assert!(read.is_ok(), "{}\n{}", text, read.unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}

/// Quadratic work would not end here.
#[test]
fn long_lists_and_many_rules_are_read_once() {
    const MANY: usize = 50_000;
    let words: Vec<String> = (0..MANY).map(|n| format!("\"word {n}\"")).collect();
    let mut script = format!(
        "if header :contains \"subject\" [{0}, {1}] {{ discard; }}\n",
        words.join(", "),
        words.join(", ").to_uppercase()
    );
    for n in 0..MANY {
        script += &format!("if header :contains \"subject\" \"rule {n}\" {{ discard; }}\n");
    }
    let settings = import(&parse(&script).unwrap(), None).settings;
    assert_eq!(settings.matches("\n    word ").count(), MANY);
    assert_eq!(settings.matches("\n    rule ").count(), MANY);
}
