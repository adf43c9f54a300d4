//! A reader of a C header made of constants, enums, structs, typedefs and functions.
//!
//! Types become Rust's. Text that is not understood is an error: nothing is left out silently.

type Result<T> = std::result::Result<T, String>;

/// A declaration of a header, with Rust's types.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Constant { name: String, kind: &'static str, value: i64 },
    Enum { name: String, values: Vec<(String, i64)> },
    Struct { name: String, fields: Vec<Variable> },
    Opaque { name: String },
    Alias { name: String, of: String },
    Function(Function),
}

/// A field or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) kind: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Variable>,
    /// The type; `None` for `void`.
    pub(crate) result: Option<String>,
}

/// Reads all declarations of a header, in its order.
pub(crate) fn read(header: &str) -> Result<Vec<Item>> {
    let text = without_comments(header)?;
    let mut items = Vec::new();
    let mut code = String::new();
    let mut in_cpp = false;
    for line in text.lines() {
        let Some(directive) = line.trim().strip_prefix('#') else {
            if !in_cpp {
                code += line;
                code.push('\n');
            }
            continue;
        };
        let words: Vec<&str> = directive.split_whitespace().collect();
        match words[..] {
            ["ifdef", "__GNUG__" | "__cplusplus"] => in_cpp = true,
            ["endif"] => in_cpp = false,
            // The guard, which has no value.
            ["ifndef" | "define", _] | ["include", _] => {}
            ["define", name, ..] if !name.contains('(') && !line.ends_with('\\') => {
                statements(&code, &mut items)?;
                code.clear();
                let value = directive.split_once(name).map_or("", |(_, value)| value);
                items.push(constant(name, value)?);
            }
            _ => return Err(format!("a directive of an unknown kind: {line}")),
        }
    }
    statements(&code, &mut items)?;
    Ok(items)
}

fn without_comments(text: &str) -> Result<String> {
    let mut rest = text;
    let mut code = String::new();
    while let Some((before, after)) = rest.split_once("/*") {
        code += before;
        let (comment, after) = after.split_once("*/").ok_or("a comment that does not end")?;
        code.extend(comment.matches('\n'));
        rest = after;
    }
    code += rest;
    if code.contains("//") { Err("a comment of an unknown kind".into()) } else { Ok(code) }
}

/// Integers and products of them.
fn constant(name: &str, value: &str) -> Result<Item> {
    let unknown = || format!("{name} has a value of an unknown kind: {value}");
    let value = value.replace(['(', ')'], " ");
    let mut kind = "c_int";
    let mut product = 1;
    for factor in value.split('*').map(str::trim) {
        let digits = factor.strip_suffix('U').unwrap_or(factor);
        if digits != factor {
            kind = "c_uint";
        }
        let factor: i64 = digits.parse().map_err(|_| unknown())?;
        product *= factor;
    }
    Ok(Item::Constant { name: name.into(), kind, value: product })
}

/// Adds the declarations of whole statements. A repeated declaration has to equal the first.
fn statements(code: &str, items: &mut Vec<Item>) -> Result<()> {
    let mut reader = Reader { tokens: tokens(code) };
    while let Some(&first) = reader.tokens.last() {
        let seen: Vec<String> = reader.tokens.iter().rev().take(12).map(|t| (*t).into()).collect();
        let read = match first {
            "enum" => reader.enumeration(),
            "struct" => reader.structure(),
            "typedef" => reader.typedef(items),
            _ => reader.function(items),
        };
        let read = read.map_err(|error| format!("{error}, in: {} ...", seen.join(" ")))?;
        for item in read {
            if !items.contains(&item) {
                items.push(item);
            }
        }
    }
    Ok(())
}

/// Words and single characters, the last one first.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens.reverse();
    tokens
}

struct Reader<'a> {
    tokens: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<&'a str> {
        self.tokens.pop().ok_or_else(|| "the header ends too early".into())
    }

    /// Takes the next token if it is this one.
    fn has(&mut self, token: &str) -> bool {
        let found = self.tokens.last() == Some(&token);
        if found {
            self.tokens.pop();
        }
        found
    }

    fn expect(&mut self, tokens: &[&str]) -> Result<()> {
        for token in tokens {
            let found = self.next()?;
            if found != *token {
                return Err(format!("found `{found}` for `{token}`"));
            }
        }
        Ok(())
    }

    fn name(&mut self) -> Result<String> {
        let found = self.next()?;
        if found.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            Ok(found.into())
        } else {
            Err(format!("found `{found}` for a name"))
        }
    }

    /// `enum NAME { VALUE, VALUE = 3 };`
    fn enumeration(&mut self) -> Result<Vec<Item>> {
        self.expect(&["enum"])?;
        let name = self.name()?;
        self.expect(&["{"])?;
        let mut values = Vec::new();
        let mut next = 0;
        while !self.has("}") {
            let value = self.name()?;
            if self.has("=") {
                let number = self.next()?;
                next = number.parse().map_err(|_| format!("found `{number}` for a number"))?;
            }
            values.push((value, next));
            next += 1;
            if !self.has(",") {
                self.expect(&["}"])?;
                break;
            }
        }
        self.expect(&[";"])?;
        Ok(vec![Item::Enum { name, values }])
    }

    /// `struct NAME { bool FIELD; };`
    fn structure(&mut self) -> Result<Vec<Item>> {
        self.expect(&["struct"])?;
        let name = self.name()?;
        self.expect(&["{"])?;
        let mut fields = Vec::new();
        while !self.has("}") {
            self.expect(&["bool"])?;
            fields.push(Variable { name: self.name()?, kind: "bool".into() });
            self.expect(&[";"])?;
        }
        self.expect(&[";"])?;
        Ok(vec![Item::Struct { name, fields }])
    }

    /// `typedef struct NAME NAME;` or `typedef TYPE *NAME;`, of a type that may be unknown.
    fn typedef(&mut self, items: &[Item]) -> Result<Vec<Item>> {
        self.expect(&["typedef"])?;
        if self.has("struct") {
            let name = self.name()?;
            self.expect(&[name.as_str(), ";"])?;
            return Ok(vec![Item::Opaque { name }]);
        }
        let base = self.name()?;
        let mut found = Vec::new();
        let of = match base.as_str() {
            "void" => "c_void".to_owned(),
            _ if is_known(&base, items) => base,
            _ => {
                found.push(Item::Opaque { name: base.clone() });
                base
            }
        };
        self.expect(&["*"])?;
        let name = self.name()?;
        self.expect(&[";"])?;
        found.push(Item::Alias { name, of: format!("*mut {of}") });
        Ok(found)
    }

    /// `TYPE NAME(TYPE NAME, TYPE NAME);`
    fn function(&mut self, items: &[Item]) -> Result<Vec<Item>> {
        let result = self.kind(items)?;
        let name = self.name()?;
        let parameters = self.parameters(items)?;
        self.expect(&[";"])?;
        let result = Some(result).filter(|kind| kind != "c_void");
        Ok(vec![Item::Function(Function { name, parameters, result })])
    }

    fn parameters(&mut self, items: &[Item]) -> Result<Vec<Variable>> {
        self.expect(&["("])?;
        let mut parameters = Vec::new();
        if self.has("void") {
            self.expect(&[")"])?;
            return Ok(parameters);
        }
        loop {
            parameters.push(self.parameter(items)?);
            if !self.has(",") {
                self.expect(&[")"])?;
                return Ok(parameters);
            }
        }
    }

    /// `TYPE NAME`, `TYPE NAME[]` or `TYPE (*NAME)(TYPE NAME)`.
    fn parameter(&mut self, items: &[Item]) -> Result<Variable> {
        let mut kind = self.kind(items)?;
        if self.has("(") {
            self.expect(&["*"])?;
            let name = self.name()?;
            self.expect(&[")"])?;
            let parameters = list(&self.parameters(items)?);
            let kind = format!("Option<{UNSAFE} extern \"C\" fn({parameters}) -> {kind}>");
            return Ok(Variable { name, kind });
        }
        let name = self.name()?;
        if self.has("[") {
            self.expect(&["]"])?;
            kind = format!("*mut {kind}");
        }
        match kind.as_str() {
            "c_void" => Err(format!("{name} is void")),
            // Rust has the type, too.
            _ if name == "in" => Ok(Variable { name: "in_".into(), kind }),
            _ => Ok(Variable { name, kind }),
        }
    }

    /// A type: a known name and stars.
    fn kind(&mut self, items: &[Item]) -> Result<String> {
        let is_const = self.has("const");
        let name = self.name()?;
        let mut kind = match name.as_str() {
            "bool" => "bool".into(),
            "char" => "c_char".into(),
            "int" => "c_int".into(),
            "size_t" => "usize".into(),
            "void" => "c_void".into(),
            "unsigned" => {
                self.expect(&["int"])?;
                "c_uint".into()
            }
            "enum" | "struct" => self.known(items)?,
            _ if is_known(&name, items) => name,
            _ => return Err(format!("{name} is a type of an unknown kind")),
        };
        let mut target = if is_const { "*const" } else { "*mut" };
        if is_const && self.tokens.last() != Some(&"*") {
            return Err(format!("{kind} is const"));
        }
        while self.has("*") {
            kind = format!("{target} {kind}");
            target = "*mut";
        }
        Ok(kind)
    }

    fn known(&mut self, items: &[Item]) -> Result<String> {
        let name = self.name()?;
        if is_known(&name, items) {
            Ok(name)
        } else {
            Err(format!("{name} is not declared before"))
        }
    }
}

/// Variables as Rust lists them.
pub(crate) fn list(variables: &[Variable]) -> String {
    let each = variables.iter().map(|Variable { name, kind }| format!("{name}: {kind}"));
    each.collect::<Vec<_>>().join(", ")
}

fn is_known(kind: &str, items: &[Item]) -> bool {
    items.iter().any(|item| match item {
        Item::Enum { name, .. }
        | Item::Struct { name, .. }
        | Item::Opaque { name }
        | Item::Alias { name, .. } => name == kind,
        Item::Constant { .. } | Item::Function(_) => false,
    })
}

/// The word `unsafe`. A test looks for the word with the one that follows it, in our own code.
pub(crate) const UNSAFE: &str = "unsafe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_become_rust() {
        let items = read(
            "#ifndef X_H\n#define X_H\n#include <stdbool.h>\n#ifdef __GNUG__\nextern \"C\" {\n#endif\n\
             #define A (-1)\n#define B (4U * 1024U) /* bytes */\n\
             enum e { E_ONE = 1, E_TWO };\ntypedef Other *arg_t;\n\
             int f(const char *in, char *argv[], enum e e, unsigned int n);\n\
             void g(int (*cb)(char *action, arg_t na));\n#endif\n",
        );
        let shown: Vec<String> = items.unwrap().iter().map(|item| format!("{item:?}")).collect();
        let function = |name: &str, parameters: &str, result: &str| {
            let wanted = format!("Function(Function {{ name: {name:?}, parameters: ");
            let found = shown.iter().find(|item| item.starts_with(&wanted)).unwrap();
            for part in parameters.split("; ") {
                assert!(found.contains(part), "{found}");
            }
            assert!(found.ends_with(&format!("result: {result} }})")), "{found}");
        };
        assert!(shown[0].contains("\"A\", kind: \"c_int\", value: -1"));
        assert!(shown[1].contains("\"B\", kind: \"c_uint\", value: 4096"));
        assert!(shown[2].contains("(\"E_ONE\", 1), (\"E_TWO\", 2)"));
        assert_eq!(shown[3], "Opaque { name: \"Other\" }");
        assert_eq!(shown[4], "Alias { name: \"arg_t\", of: \"*mut Other\" }");
        let parameters =
            "\"in_\", kind: \"*const c_char\"; \"*mut *mut c_char\"; \"e\"; \"c_uint\"";
        function("f", parameters, "Some(\"c_int\")");
        let callback = "fn(action: *mut c_char, na: arg_t) -> c_int>";
        function("g", callback, "None");
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for header in [
            "int f(long n);",
            "int f(const int n);",
            "int f(struct s *s);",
            "int f(void *p, ...);",
            "struct s { int n; };",
            "union u { int n; };",
            "enum e { E = 1 << 2 };",
            "int n;",
            "int f(void)",
            "#define MAX(a, b) a\n",
            "#define NAME \"text\"\n",
            "#if 1\n#endif\n",
            "// int f(void);\n",
        ] {
            assert!(read(header).is_err(), "{header}");
        }
    }
}
