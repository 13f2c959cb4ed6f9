//! Tables and words for people, made from the JSON that machines get.
//!
//! What comes from a server is printed without control characters: an id cannot move anybody's cursor.

use serde_json::Value;

/// JSON for machines: indented, one trailing line feed is the caller's.
pub fn json(value: &Value) -> String {
    format!("{value:#}")
}

/// A member as text; empty if it is not there.
pub fn text(value: &Value, member: &str) -> String {
    plain(&value[member])
}

/// A value as one cell of a table.
pub fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A moment, seconds since 1970, as RFC 3339 writes it.
pub fn moment(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| seconds.to_string(), |at| at.to_string())
}

/// A duration in the two largest units that fit.
pub fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut left = seconds;
    let mut words = Vec::new();
    for (size, unit) in units {
        if left >= size && words.len() < 2 {
            words.push(format!("{}{unit}", left / size));
            left %= size;
        }
    }
    if words.is_empty() { "0s".into() } else { words.join(" ") }
}

/// A number with thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The member as a moment; empty if it is not there.
pub fn time(value: &Value, member: &str) -> String {
    value[member].as_u64().map(moment).unwrap_or_default()
}

/// When something ends.
pub fn ends(value: &Value) -> String {
    if value["never_expires"] == true { "never".into() } else { time(value, "exp") }
}

/// A list of scopes in one cell; answers name every scope behind the wildcard, people are spared that.
pub fn scopes(value: &Value, member: &str) -> String {
    let all = value[member].as_array().is_some_and(|scopes| scopes.iter().any(|scope| scope == "*"));
    if all { "* (everything)".into() } else { text(value, member) }
}

/// An access list in one line: `1579: tasks:read tasks:write; everywhere: *`.
pub fn access(value: &Value) -> String {
    let pair = |pair: &Value| {
        let place = if pair["everywhere"] == true { "everywhere".into() } else { text(pair, "place") };
        format!("{place}: {}", scopes(pair, "scopes"))
    };
    value.as_array().map(|pairs| pairs.iter().map(pair).collect::<Vec<_>>().join("; ")).unwrap_or_default()
}

/// Whether it is alive, and if not, why.
pub fn alive(value: &Value, member: &str) -> String {
    if value[member] == true { "yes".into() } else { format!("no, {}", text(value, "why_not").replace('_', " ")) }
}

/// A table with a header; columns as wide as their widest cell, two spaces apart.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    if rows.is_empty() {
        return "nothing".into();
    }
    let header: Vec<String> = header.iter().map(|name| name.to_uppercase()).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&header).chain(&rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    std::iter::once(&header).chain(&rows).map(line).collect::<Vec<_>>().join("\n")
}

/// Names and values, one pair a line; pairs without a value are left out.
pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<(&str, String)> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// A flat object, one member a line.
pub fn object(value: &Value) -> String {
    let members = value.as_object().into_iter().flatten();
    pairs(members.map(|(name, value)| (name.as_str(), plain(value))))
}

/// The rows under `name`, and a line that says so if there are more than were given.
pub fn rows(answer: &Value, name: &str, header: &[&str], row: impl Fn(&Value) -> Vec<String>) -> String {
    let listed = answer[name].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = table(header, listed.iter().map(row));
    let total = answer["total"].as_u64().unwrap_or(listed.len() as u64);
    if total > listed.len() as u64 {
        text.push_str(&format!("\n{} of {}; raise --limit to see more", count(listed.len() as u64), count(total)));
    }
    text
}

/// The proof of a change, in a line or two.
pub fn done(answer: &Value, what: &str) -> String {
    let made = pairs([
        ("grant", text(answer, "grant")),
        ("handle", text(answer, "handle")),
        ("token", text(answer, "token")),
        ("revision", text(answer, "revision")),
    ]);
    format!("{what}\n{made}")
}
