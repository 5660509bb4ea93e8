//! One change to a text: what it becomes, to the octet.

use sekimori::config::edit::{Change, Step, Value, apply, path};

fn at(dotted: &str) -> Vec<Step> {
    path(dotted).unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn word(word: &str) -> Value {
    Value::Word(word.to_owned())
}

fn set(dotted: &str, value: Value) -> Change {
    Change::Set(at(dotted), value)
}

fn remove(dotted: &str) -> Change {
    Change::Remove(at(dotted))
}

fn add(dotted: &str, entries: &[&str]) -> Change {
    Change::Add(
        at(dotted),
        entries.iter().map(|e| (*e).to_owned()).collect(),
    )
}

fn take(dotted: &str, indexes: &[usize]) -> Change {
    Change::Take(at(dotted), indexes.iter().copied().collect())
}

fn shift(dotted: &str, from: usize, to: usize) -> Change {
    Change::Move(at(dotted), from, to)
}

#[track_caller]
fn table(rows: &[(&str, Change, &str)]) {
    let mut wrong = String::new();
    for (before, change, after) in rows {
        let found = apply(before, change);
        if found.as_deref() != Ok(*after) {
            let found = found.unwrap_or_else(|at| format!("{at:?}"));
            wrong += &format!("{change:?} of\n{before}\nexpected\n{after}\nfound\n{found}\n----\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn a_scalar_is_set_where_it_stands() {
    table(&[
        (
            "spam:\n  scan: true    # yes\n  notice: off\n",
            set("spam.scan", word("false")),
            "spam:\n  scan: false    # yes\n  notice: off\n",
        ),
        (
            "spam: {scan: true, mark_subject: \"[spam]\" } # c\n",
            set("spam.mark_subject", text("a \"b\" # c")),
            "spam: {scan: true, mark_subject: \"a \\\"b\\\" # c\" } # c\n",
        ),
        (
            "spam:\n  mark_subject: '[it''s]'   # c\nvirus: {scan: true}\n",
            set("spam.mark_subject", text("")),
            "spam:\n  mark_subject: \"\"   # c\nvirus: {scan: true}\n",
        ),
        (
            "version: 1\n",
            set("spam.scan", word("true")),
            "version: 1\nspam:\n  scan: true\n",
        ),
        (
            "version: 1",
            set("spam.scan", word("true")),
            "version: 1\nspam:\n  scan: true",
        ),
        (
            "auto_reply:\n  message: |\n    text",
            set("spam.scan", word("true")),
            "auto_reply:\n  message: |\n    text\nspam:\n  scan: true",
        ),
        (
            "version: 1\r\nspam:\r\n    notice: daily\r\n",
            set("spam.scan", word("true")),
            "version: 1\r\nspam:\r\n    scan: true\r\n    notice: daily\r\n",
        ),
        (
            "\u{feff}version: 1\nlanguage: ja\n",
            set("language", word("en")),
            "\u{feff}version: 1\nlanguage: en\n",
        ),
        (
            "spam: {}\n",
            set("spam.scan", word("true")),
            "spam: {scan: true}\n",
        ),
        (
            "spam: {scan: true}\n",
            set("spam.notice", word("daily")),
            "spam: {scan: true, notice: daily}\n",
        ),
        (
            "{version: 1}\n",
            set("spam.scan", word("true")),
            "{version: 1, spam: {scan: true}}\n",
        ),
        (
            "auto_reply:\n  message: |  # text\n    old\n\n    older\n\n  # keep\n  enabled: true\n",
            set(
                "auto_reply.message",
                text("new\n  deeper\n\n# no comment\n"),
            ),
            "auto_reply:\n  message: |  # text\n    new\n      deeper\n\n    # no comment\n\n  # keep\n  enabled: true\n",
        ),
        (
            "auto_reply:\n  message: >-  # text\n    old\n    older\n  enabled: true\n",
            set("auto_reply.message", text("one line")),
            "auto_reply:\n  message: \"one line\"  # text\n  enabled: true\n",
        ),
        (
            "auto_reply: {message: away}\n",
            set("auto_reply.message", text("a\nb\n")),
            "auto_reply: {message: \"a\\nb\\n\"}\n",
        ),
        (
            "auto_reply:\n  message: away # c\n",
            set("auto_reply.message", text("a\nb")),
            "auto_reply:\n  message: |- # c\n    a\n    b\n",
        ),
        (
            "forwarding:\n  rules:\n  - name: a\n    to: [x@y.jp]\n  - {name: b, to: [x@y.jp]}\n",
            set("forwarding.rules[0].paused", word("true")),
            "forwarding:\n  rules:\n  - name: a\n    to: [x@y.jp]\n    paused: true\n  - {name: b, to: [x@y.jp]}\n",
        ),
        (
            "forwarding:\n  rules:\n  - name: a\n    to: [x@y.jp]\n  - {name: b, to: [x@y.jp]}\n",
            set("forwarding.rules[1].paused", word("true")),
            "forwarding:\n  rules:\n  - name: a\n    to: [x@y.jp]\n  - {name: b, to: [x@y.jp], paused: true}\n",
        ),
    ]);
}

#[test]
fn a_key_goes_with_its_lines_and_comments_stay() {
    table(&[
        (
            "version: 1\n# a\nspam:\n  # b\n  scan: true # c\n  # d\nvirus: {scan: true}\n",
            remove("spam.scan"),
            "version: 1\n# a\n# b\n  # d\nvirus: {scan: true}\n",
        ),
        (
            "spam: {scan: true, notice: daily}\n",
            remove("spam.scan"),
            "spam: {notice: daily}\n",
        ),
        (
            "spam: {scan: true, notice: daily}\n",
            remove("spam.notice"),
            "spam: {scan: true}\n",
        ),
        (
            "version: 1\nspam: {scan: true}\n",
            remove("spam.scan"),
            "version: 1\n",
        ),
        (
            "forwarding:\n  mode: off\n  all:\n    # home\n    to:\n      - a@b.jp\n\n# end\n",
            remove("forwarding.all.to"),
            "forwarding:\n  mode: off\n  # home\n\n# end\n",
        ),
        ("a:\n  b:\n    c: |\n      x\nz: y", remove("a.b.c"), "z: y"),
        ("z: y\na:\n  b: |\n    x", remove("a"), "z: y"),
    ]);
}

#[test]
fn entries_are_added_in_the_style_of_the_list() {
    table(&[
        (
            "reject:\n  from_suffixes: |   # c\n    @a.jp\n\n    @b.jp\n\n  # next\n  headers: [from_empty]\n",
            add("reject.from_suffixes", &["@c.jp", "#1 offer"]),
            "reject:\n  from_suffixes: |   # c\n    @a.jp\n\n    @b.jp\n    @c.jp\n    #1 offer\n\n  # next\n  headers: [from_empty]\n",
        ),
        (
            "reject:\n  from_suffixes: |\n    @a.jp",
            add("reject.from_suffixes", &["@c.jp"]),
            "reject:\n  from_suffixes: |\n    @a.jp\n    @c.jp",
        ),
        (
            "reject:\r\n  from_suffixes: |\r\n    @a.jp\r\n",
            add("reject.from_suffixes", &["@c.jp"]),
            "reject:\r\n  from_suffixes: |\r\n    @a.jp\r\n    @c.jp\r\n",
        ),
        (
            "reject:\n  subject_contains:\n  - 広告   # c\n  # d\n  - \"x: y\"\n  headers: [from_empty]\n",
            add("reject.subject_contains", &["未承諾広告", "a: b"]),
            "reject:\n  subject_contains:\n  - 広告   # c\n  # d\n  - \"x: y\"\n  - \"未承諾広告\"\n  - \"a: b\"\n  headers: [from_empty]\n",
        ),
        (
            "reject: {from_suffixes: [\"@a.jp\"  , '@b.jp'] }\n",
            add("reject.from_suffixes", &["@c.jp"]),
            "reject: {from_suffixes: [\"@a.jp\"  , '@b.jp', \"@c.jp\"] }\n",
        ),
        (
            "notify:\n  to: [\n    a@b.jp,  # one\n    c@d.jp,  # two\n  ]\n",
            add("notify.to", &["e@f.jp"]),
            "notify:\n  to: [\n    a@b.jp,  # one\n    c@d.jp, e@f.jp,  # two\n  ]\n",
        ),
        (
            "reject:\n  from_suffixes: []\n",
            add("reject.from_suffixes", &["@c.jp"]),
            "reject:\n  from_suffixes: [\"@c.jp\"]\n",
        ),
        (
            "reject:\n  from_suffixes: .a.jp   # one\n",
            add("reject.from_suffixes", &["@c.jp"]),
            "reject:\n  from_suffixes: |   # one\n    .a.jp\n    @c.jp\n",
        ),
        (
            "reject: {from_suffixes: .a.jp}\n",
            add("reject.from_suffixes", &["@c.jp"]),
            "reject: {from_suffixes: [\".a.jp\", \"@c.jp\"]}\n",
        ),
        (
            "reject:\n  from_suffixes: >\n    .a.jp\n\n    .b.jp\n  headers: [from_empty]\n",
            add("reject.from_suffixes", &["@c.jp"]),
            "reject:\n  from_suffixes: |\n    .a.jp\n    .b.jp\n    @c.jp\n  headers: [from_empty]\n",
        ),
        (
            "reject:\n  from_suffixes: |2-\n     .a.jp\n    .b.jp\n",
            add("reject.from_suffixes", &["@c.jp"]),
            "reject:\n  from_suffixes: |2-\n     .a.jp\n    .b.jp\n    @c.jp\n",
        ),
        (
            "version: 1\n",
            add("reject.headers", &["from_empty", "subject_empty"]),
            "version: 1\nreject:\n  headers: [from_empty, subject_empty]\n",
        ),
    ]);
}

#[test]
fn entries_are_taken_out_one_by_one() {
    table(&[
        (
            "reject:\n  from_suffixes: |\n    a\n\n    b\n    c\n# end\n",
            take("reject.from_suffixes", &[0, 2]),
            "reject:\n  from_suffixes: |\n\n    b\n# end\n",
        ),
        (
            "reject:\n  from_suffixes: |\n    a\n      b\n    c\n",
            take("reject.from_suffixes", &[0]),
            "reject:\n  from_suffixes: |\n    b\n    c\n",
        ),
        (
            "reject:\n  from_suffixes:\n    # one\n    - a  # x\n    # two\n    -\n      b\n    - c\n",
            take("reject.from_suffixes", &[0, 1]),
            "reject:\n  from_suffixes:\n    # one\n    # two\n    - c\n",
        ),
        (
            "notify: {to: [a@b.jp, c@d.jp, e@f.jp]}\n",
            take("notify.to", &[0]),
            "notify: {to: [c@d.jp, e@f.jp]}\n",
        ),
        (
            "notify: {to: [a@b.jp, c@d.jp, e@f.jp]}\n",
            take("notify.to", &[1]),
            "notify: {to: [a@b.jp, e@f.jp]}\n",
        ),
        (
            "notify: {to: [a@b.jp, c@d.jp, e@f.jp]}\n",
            take("notify.to", &[1, 2]),
            "notify: {to: [a@b.jp]}\n",
        ),
        (
            "notify:\n  to: [\n    a@b.jp,\n    # two\n    c@d.jp,  # two too\n    e@f.jp\n  ]\n",
            take("notify.to", &[0, 2]),
            "notify:\n  to: [\n    # two\n    c@d.jp  # two too\n  ]\n",
        ),
        (
            "version: 1\nnotify: {to: [a@b.jp]}\n",
            take("notify.to", &[0]),
            "version: 1\n",
        ),
        (
            "version: 1\nreject:\n  # why\n  from_suffixes: a\n",
            take("reject.from_suffixes", &[0]),
            "version: 1\n# why\n",
        ),
        (
            "reject:\n  from_suffixes: \"a\\nb\\nc\"\n",
            take("reject.from_suffixes", &[1]),
            "reject:\n  from_suffixes: |\n    a\n    c\n",
        ),
    ]);
}

#[test]
fn rules_are_put_in_taken_out_and_moved() {
    const RULES: &str = "forwarding:\n  mode: rules\n  rules:   # list\n    # first\n    - name: a\n      subject_contains: |\n        x\n      to: [a@b.jp]\n    # second\n    - name: b\n      to: [a@b.jp]  # c\n    - {name: c, to: [a@b.jp]}\n  # end\n";
    let rule = Value::Map(vec![
        ("name".to_owned(), text("to the office")),
        (
            "subject_contains".to_owned(),
            Value::Lines(vec!["請求書".to_owned(), "#1".to_owned()]),
        ),
        (
            "size".to_owned(),
            Value::Map(vec![("at_least".to_owned(), text("10KiB"))]),
        ),
        ("to".to_owned(), Value::List(vec![text("k@e.jp")])),
        ("keep_copy".to_owned(), word("false")),
    ]);
    let insert = |index| Change::Insert(at("forwarding.rules"), index, rule.clone());
    table(&[
        (
            "version: 1\n",
            insert(0),
            "version: 1\nforwarding:\n  rules:\n    - name: \"to the office\"\n      subject_contains: |\n        請求書\n        #1\n      size:\n        at_least: 10KiB\n      to: [k@e.jp]\n      keep_copy: false\n",
        ),
        (
            RULES,
            insert(1),
            "forwarding:\n  mode: rules\n  rules:   # list\n    # first\n    - name: a\n      subject_contains: |\n        x\n      to: [a@b.jp]\n    - name: \"to the office\"\n      subject_contains: |\n        請求書\n        #1\n      size:\n        at_least: 10KiB\n      to: [k@e.jp]\n      keep_copy: false\n    # second\n    - name: b\n      to: [a@b.jp]  # c\n    - {name: c, to: [a@b.jp]}\n  # end\n",
        ),
        (
            "forwarding: {rules: [{name: a, to: [a@b.jp]}]}\n",
            insert(1),
            "forwarding: {rules: [{name: a, to: [a@b.jp]}, {name: \"to the office\", subject_contains: [\"請求書\", \"#1\"], size: {at_least: 10KiB}, to: [k@e.jp], keep_copy: false}]}\n",
        ),
        (
            RULES,
            take("forwarding.rules", &[1]),
            "forwarding:\n  mode: rules\n  rules:   # list\n    # first\n    - name: a\n      subject_contains: |\n        x\n      to: [a@b.jp]\n    # second\n    - {name: c, to: [a@b.jp]}\n  # end\n",
        ),
        (
            RULES,
            shift("forwarding.rules", 0, 2),
            "forwarding:\n  mode: rules\n  rules:   # list\n    # second\n    - name: b\n      to: [a@b.jp]  # c\n    - {name: c, to: [a@b.jp]}\n    # first\n    - name: a\n      subject_contains: |\n        x\n      to: [a@b.jp]\n  # end\n",
        ),
        (
            RULES,
            shift("forwarding.rules", 2, 0),
            "forwarding:\n  mode: rules\n  rules:   # list\n    - {name: c, to: [a@b.jp]}\n    # first\n    - name: a\n      subject_contains: |\n        x\n      to: [a@b.jp]\n    # second\n    - name: b\n      to: [a@b.jp]  # c\n  # end\n",
        ),
        (
            "forwarding: {rules: [{name: a}, {name: b}, {name: c}]}\n",
            shift("forwarding.rules", 0, 1),
            "forwarding: {rules: [{name: b}, {name: a}, {name: c}]}\n",
        ),
        (
            "forwarding: {rules: [{name: a}, {name: b}, {name: c}]}\n",
            shift("forwarding.rules", 2, 0),
            "forwarding: {rules: [{name: c}, {name: a}, {name: b}]}\n",
        ),
        (
            "forwarding: {rules: [{name: a}, {name: b}, {name: c}]}\n",
            shift("forwarding.rules", 0, 2),
            "forwarding: {rules: [{name: b}, {name: c}, {name: a}]}\n",
        ),
    ]);
}

#[test]
fn a_form_that_does_not_fit_is_left_to_a_person() {
    for (before, change, line, col) in [
        (
            "? spam\n: {scan: true}\n",
            set("spam.scan.x", text("y")),
            2,
            10,
        ),
        (
            "? reject\n: scan: true\n",
            set("reject.other", text("y")),
            2,
            3,
        ),
        ("a: b\n", remove("c"), 1, 1),
        ("a: b\n...\n", add("reject.from_suffixes", &["x"]), 1, 1),
        ("a: [b]\n", shift("a", 0, 1), 1, 4),
    ] {
        let at = apply(before, &change).unwrap_err();
        assert_eq!((at.line, at.col), (line, col), "{before}");
    }
}

/// Quadratic work would not end here.
#[test]
fn half_of_a_long_list_on_one_line_is_taken_out() {
    const MANY: usize = 200_000;
    let list = |step: usize| {
        let items: Vec<String> = (0..MANY)
            .step_by(step)
            .map(|n| format!("a{n}@x.jp"))
            .collect();
        format!("version: 1\nallow: {{senders: [{}]}}\n", items.join(", "))
    };
    let odd = Change::Take(at("allow.senders"), (1..MANY).step_by(2).collect());
    let halved = apply(&list(1), &odd).unwrap();
    assert!(halved == list(2), "{} octets are left", halved.len());
}
