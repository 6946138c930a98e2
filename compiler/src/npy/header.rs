//! The header of an `.npy` file: a Python dictionary literal with the keys `descr`, `fortran_order` and `shape`.
//!
//! Only that literal is understood; nothing is evaluated.

/// The three entries of the header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) descr: String,
    pub(super) order: Order,
    pub(super) shape: Vec<u64>,
}

/// Which index of the array runs fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The last one.
    C,
    /// The first one.
    Fortran,
}

/// Why a text is no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text differs from a header at a byte.
    Syntax { at: usize, expected: &'static str },
    /// The element type is a list of fields.
    Structured,
}

/// Reads the whole header text.
pub(super) fn parse(text: &str) -> Result<Header, Fault> {
    let mut p = Parser { text, at: 0 };
    let (mut descr, mut order, mut shape) = (None, None, None);
    p.expect('{')?;
    while !p.eat('}') {
        let key_at = p.at;
        let key = p.string()?;
        p.expect(':')?;
        let repeated = match key {
            "descr" => descr.replace(p.descr()?).is_some(),
            "fortran_order" => order.replace(p.order()?).is_some(),
            "shape" => shape.replace(p.shape()?).is_some(),
            _ => return Err(Fault::Syntax { at: key_at, expected: "'descr', 'fortran_order' or 'shape'" }),
        };
        if repeated {
            return Err(Fault::Syntax { at: key_at, expected: "each key once" });
        }
        if !p.eat(',') {
            p.expect('}')?;
            break;
        }
    }
    p.space();
    let at = p.at;
    let missing = |expected| Fault::Syntax { at, expected };
    if at != text.len() {
        return Err(missing("nothing after the dictionary"));
    }
    Ok(Header {
        descr: descr.ok_or_else(|| missing("the key 'descr'"))?,
        order: order.ok_or_else(|| missing("the key 'fortran_order'"))?,
        shape: shape.ok_or_else(|| missing("the key 'shape'"))?,
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\n', '\t', '\r']).len();
    }

    fn eat(&mut self, c: char) -> bool {
        self.space();
        let found = self.rest().starts_with(c);
        self.at += if found { c.len_utf8() } else { 0 };
        found
    }

    fn fault<T>(&self, expected: &'static str) -> Result<T, Fault> {
        Err(Fault::Syntax { at: self.at, expected })
    }

    fn expect(&mut self, c: char) -> Result<(), Fault> {
        let expected = match c {
            '{' => "`{`",
            '}' => "`,` or `}`",
            ':' => "`:`",
            '(' => "`(`",
            _ => "`,` or `)`",
        };
        if self.eat(c) { Ok(()) } else { self.fault(expected) }
    }

    /// A quoted string without escapes; numpy writes none.
    fn string(&mut self) -> Result<&'a str, Fault> {
        self.space();
        let rest = self.rest();
        let Some(quote @ ('\'' | '"')) = rest.chars().next() else { return self.fault("a string") };
        let Some(end) = rest[1..].find([quote, '\\', '\n']) else { return self.fault("the end of the string") };
        if !rest[1 + end..].starts_with(quote) {
            return self.fault("a string without escapes");
        }
        self.at += end + 2;
        Ok(&rest[1..=end])
    }

    fn descr(&mut self) -> Result<String, Fault> {
        self.space();
        if self.rest().starts_with(['[', '(']) {
            return Err(Fault::Structured);
        }
        self.string().map(str::to_string)
    }

    fn order(&mut self) -> Result<Order, Fault> {
        self.space();
        for (word, order) in [("True", Order::Fortran), ("False", Order::C)] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(order);
            }
        }
        self.fault("True or False")
    }

    fn shape(&mut self) -> Result<Vec<u64>, Fault> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.eat(')') {
            self.space();
            let digits = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
            let Ok(n) = self.rest()[..digits].parse() else { return self.fault("a dimension from 0 to 2^64 - 1") };
            shape.push(n);
            self.at += digits;
            // Python 2 wrote long integers with this letter.
            if self.rest().starts_with('L') {
                self.at += 1;
            }
            if !self.eat(',') {
                // One number in parentheses is no tuple, but numpy wrote it so once.
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syntax(text: &str) -> (usize, &'static str) {
        match parse(text).unwrap_err() {
            Fault::Syntax { at, expected } => (at, expected),
            Fault::Structured => panic!("a structured type"),
        }
    }

    #[test]
    fn keys_come_in_any_order_and_style() {
        let header = |shape: &[u64]| Header { descr: "<f4".into(), order: Order::Fortran, shape: shape.into() };
        let parse = |text| parse(text).unwrap();
        assert_eq!(parse("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }   \n"), header(&[2, 3]));
        assert_eq!(parse("{\"shape\":(2L,),'fortran_order':True,\"descr\":\"<f4\"}"), header(&[2]));
        assert_eq!(parse("{'descr': '<f4', 'fortran_order': True, 'shape': ()}"), header(&[]));
    }

    #[test]
    fn what_is_no_header_is_refused_where_it_goes_wrong() {
        assert_eq!(syntax(""), (0, "`{`"));
        assert_eq!(syntax("{'descr': '<f4'"), (15, "`,` or `}`"));
        assert_eq!(syntax("{'descr': '<f4'}"), (16, "the key 'fortran_order'"));
        assert_eq!(syntax("{'descr': '<f4', 'descr': '<f4'}"), (17, "each key once"));
        assert_eq!(syntax("{'evil': 1}"), (1, "'descr', 'fortran_order' or 'shape'"));
        assert_eq!(syntax("{'shape': (-1,)}"), (11, "a dimension from 0 to 2^64 - 1"));
        assert_eq!(syntax("{'shape': (99999999999999999999,)}"), (11, "a dimension from 0 to 2^64 - 1"));
        assert_eq!(syntax("{'shape': __import__('os')}"), (10, "`(`"));
        assert_eq!(syntax("{'descr': '\\x3cf4'}"), (10, "a string without escapes"));
        assert_eq!(syntax("{'descr': 'é"), (10, "the end of the string"));
        let whole = "{'descr': '<f4', 'fortran_order': True, 'shape': ()}";
        assert_eq!(syntax(&format!("{whole} x")), (whole.len() + 1, "nothing after the dictionary"));
        assert_eq!(parse("{'descr': [('a', '<f4')]}"), Err(Fault::Structured));
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err());
        }
    }
}
