//! The rules of Jenkins' schema for JUnit results: `junit-10.xsd` of jenkinsci/xunit-plugin
//! (src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd, read at commit 031e285). It is the form
//! that the plug-in itself writes and validates; here are the elements that a result without reruns has.

use roxmltree::{Document, Node};

struct Rule {
    element: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    children: &'static [&'static str],
    /// Whether text may stand in it.
    text: bool,
}

const RULES: [Rule; 10] = [
    Rule {
        element: "testsuites",
        required: &[],
        optional: &["name", "time", "tests", "failures", "errors"],
        children: &["testsuite"],
        text: false,
    },
    Rule {
        element: "testsuite",
        required: &["name", "tests", "failures", "errors"],
        optional: &[
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
            "log",
            "url",
        ],
        children: &["testsuite", "properties", "testcase", "system-out", "system-err"],
        text: false,
    },
    Rule {
        element: "testcase",
        required: &["name"],
        optional: &["time", "classname", "group"],
        children: &["skipped", "error", "failure", "system-out", "system-err"],
        text: false,
    },
    Rule {
        element: "properties",
        required: &[],
        optional: &[],
        children: &["property"],
        text: false,
    },
    Rule {
        element: "property",
        required: &["name", "value"],
        optional: &[],
        children: &[],
        text: false,
    },
    outcome("failure"),
    outcome("error"),
    outcome("skipped"),
    Rule { element: "system-out", required: &[], optional: &[], children: &[], text: true },
    Rule { element: "system-err", required: &[], optional: &[], children: &[], text: true },
];

const fn outcome(element: &'static str) -> Rule {
    Rule { element, required: &[], optional: &["type", "message"], children: &[], text: true }
}

/// The time of a suite: digits, in groups of three or not, and perhaps a point and more digits.
fn is_time(text: &str) -> bool {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    digits(part) && digits(&whole.replace(',', ""))
}

/// What breaks the schema, if anything does.
pub fn broken(xml: &str) -> Option<String> {
    let document = match Document::parse(xml) {
        Ok(document) => document,
        Err(e) => return Some(e.to_string()),
    };
    let root = document.root_element();
    let name = root.tag_name().name();
    if !["testsuites", "testsuite"].contains(&name) {
        return Some(format!("the root is {name}"));
    }
    root.descendants().filter(Node::is_element).find_map(|node| broken_element(&node))
}

fn broken_element(node: &Node) -> Option<String> {
    let name = node.tag_name().name();
    let Some(rule) = RULES.iter().find(|rule| rule.element == name) else {
        return Some(format!("there is no element {name}"));
    };
    if let Some(missing) = rule.required.iter().find(|a| node.attribute(**a).is_none()) {
        return Some(format!("{name} has no {missing}"));
    }
    for attribute in node.attributes() {
        let (key, value) = (attribute.name(), attribute.value());
        if !rule.required.contains(&key) && !rule.optional.contains(&key) {
            return Some(format!("{name} has no place for {key}"));
        }
        if key == "time" && name.starts_with("testsuite") && !is_time(value) {
            return Some(format!("{name} takes {value}"));
        }
    }
    node.children().find_map(|child| {
        let inner = child.tag_name().name();
        if child.is_element() && !rule.children.contains(&inner) {
            return Some(format!("{inner} in {name}"));
        }
        let text = child.is_text() && !child.text().unwrap_or_default().trim().is_empty();
        (text && !rule.text).then(|| format!("text in {name}"))
    })
}

#[test]
fn what_breaks_the_schema_is_seen() {
    let suite = "name='a' tests='1' failures='0' errors='0'";
    for (xml, complaint) in [
        ("<testsuites><testcase name='a'/></testsuites>", "testcase in testsuites"),
        ("<testsuites skipped='1'/>", "no place for skipped"),
        ("<testsuite name='a' tests='1' failures='0'/>", "no errors"),
        (&format!("<testsuite {suite} time='1e-3'/>"), "takes 1e-3"),
        (&format!("<testsuite {suite} time='NaN'/>"), "takes NaN"),
        (&format!("<testsuite {suite}>x</testsuite>"), "text in testsuite"),
        (&format!("<testsuite {suite}><testcase/></testsuite>"), "testcase has no name"),
        (&format!("<testsuite {suite}><case/></testsuite>"), "case in testsuite"),
        (&format!("<testsuite {suite}><failure/></testsuite>"), "failure in testsuite"),
        ("<testrun/>", "the root is testrun"),
        ("<testsuites>", "root"),
    ] {
        let said = broken(xml).unwrap_or_else(|| panic!("{xml} passes"));
        assert!(said.contains(complaint), "{xml}: {said}");
    }
    assert_eq!(broken(&format!("<testsuite {suite} time='1,234.5'/>")), None);
}
