//! A JUnit report, as build servers read it: a `testsuite` for each file, a `testcase` for each case.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::outcome::Outcome;
use crate::cli::text;

/// The report; it ends with a line end.
pub(super) fn report(outcomes: &[Outcome]) -> String {
    let mut report = Report(Writer::new_with_indent(Vec::new(), b' ', 2));
    report.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
    report.open("testsuites", &[("name", "sekimori")], outcomes);
    for suite in outcomes.chunk_by(|a, b| a.file == b.file) {
        let file = suite.first().map(|outcome| outcome.file.display());
        let file = file.map(|file| clean(&file.to_string()));
        report.open("testsuite", &[("name", &file.unwrap_or_default())], suite);
        suite.iter().for_each(|outcome| report.case(outcome));
        report.event(Event::End(BytesEnd::new("testsuite")));
    }
    report.event(Event::End(BytesEnd::new("testsuites")));
    let mut text = String::from_utf8(report.0.into_inner()).unwrap_or_default();
    text.push('\n');
    text
}

/// Only what XML 1.0 allows (2.2).
fn clean(text: &str) -> String {
    text::clean(text).replace(['\u{FFFE}', '\u{FFFF}'], "\u{FFFD}")
}

struct Report(Writer<Vec<u8>>);

impl Report {
    fn event(&mut self, event: Event<'_>) {
        // Into memory, which takes everything.
        let _ = self.0.write_event(event);
    }

    /// Opens an element that counts its cases.
    fn open(&mut self, name: &str, attributes: &[(&str, &str)], cases: &[Outcome]) {
        let failed = cases.iter().filter(|outcome| !outcome.passed()).count();
        let mut element = BytesStart::new(name);
        element.extend_attributes(attributes.iter().copied());
        element.push_attribute(("tests", cases.len().to_string().as_str()));
        element.push_attribute(("failures", failed.to_string().as_str()));
        element.push_attribute(("errors", "0"));
        self.event(Event::Start(element));
    }

    fn case(&mut self, outcome: &Outcome) {
        let file = clean(&outcome.file.display().to_string());
        let name = clean(&outcome.name);
        let line = outcome.line.to_string();
        let mut case = BytesStart::new("testcase");
        case.extend_attributes([
            ("classname", file.as_str()),
            ("name", &name),
            ("file", &file),
            ("line", &line),
        ]);
        if outcome.passed() {
            self.event(Event::Empty(case));
            return;
        }
        self.event(Event::Start(case));
        let complaints: Vec<String> = outcome.complaints().map(|line| clean(&line)).collect();
        let mut failure = BytesStart::new("failure");
        failure.push_attribute(("message", complaints.join("; ").as_str()));
        self.event(Event::Start(failure));
        self.event(Event::Text(BytesText::new(&complaints.join("\n"))));
        self.event(Event::End(BytesEnd::new("failure")));
        self.event(Event::End(BytesEnd::new("testcase")));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::outcome::Difference;
    use super::*;

    fn outcome(file: &str, name: &str, got: Option<&str>) -> Outcome {
        let differences = got.map(|got| Difference {
            what: "entry",
            expected: json!("x"),
            got: json!(got),
        });
        Outcome {
            name: name.to_owned(),
            file: PathBuf::from(file),
            line: 7,
            differences: differences.into_iter().collect(),
            reason: None,
        }
    }

    proptest! {
           /// Another parser reads what stands in it, whatever the names and entries are.
           #[test]
           fn an_xml_parser_reads_it_back(
               file in ".{1,12}",
               cases in prop::collection::vec((".*", prop::option::of(".*")), 0..4),
               special in prop::sample::select(vec!["", "]]>", "<!--", "&#0;", "\u{fffe}\u{ffff}\u{0}\"'<&>\n\t"]),
           ) {
               let outcomes: Vec<Outcome> = cases
                   .iter()
                   .map(|(name, got)| outcome(&file, &format!("{name}{special}"), got.as_deref()))
                   .collect();
               let text = report(&outcomes);
               let document = roxmltree::Document::parse(&text).map_err(|error| {
                   TestCaseError::fail(format!("{error}: {text}"))
               })?;
               let read: Vec<_> = document.descendants().filter(|n| n.has_tag_name("testcase")).collect();
               prop_assert_eq!(read.len(), outcomes.len());
               for (node, outcome) in read.iter().zip(&outcomes) {
                   prop_assert_eq!(node.attribute("name").map(str::to_owned), Some(clean(&outcome.name)));
                   let failure = node.children().find(|child| child.has_tag_name("failure"));
                   prop_assert_eq!(failure.is_none(), outcome.passed());
                   if let Some(failure) = failure {
                       let expected: Vec<String> =
                           outcome.complaints().map(|line| clean(&line)).collect();
                       let message = failure.attribute("message").unwrap_or_default();
    prop_assert_eq!(message, expected.join("; "));
                       prop_assert_eq!(failure.text().unwrap_or_default(), expected.join("\n"));
                   }
               }
           }
       }

    #[test]
    fn suites_are_files_and_count_their_cases() {
        let outcomes = [
            outcome("a.yaml", "one", None),
            outcome("a.yaml", "two", Some("y")),
            outcome("b.yaml", "one", None),
        ];
        let text = report(&outcomes);
        let document = roxmltree::Document::parse(&text).unwrap();
        let suites: Vec<_> = document
            .descendants()
            .filter(|node| node.tag_name().name().starts_with("testsuite"))
            .map(|node| ["name", "tests", "failures"].map(|name| node.attribute(name).unwrap()))
            .collect();
        assert_eq!(
            suites,
            [
                ["sekimori", "3", "1"],
                ["a.yaml", "2", "1"],
                ["b.yaml", "1", "0"]
            ]
        );
    }
}
