//! Tokens to syntax. Names are not looked up and types are not checked here; `build.rs` does both.

use super::data::{decode_hex, from_numbers, generated_len};
use super::lex::{Lexer, Token};
use super::{ParseError, Position, Reference};
use crate::netlist::Netlist;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, DimView, Shape, TensorType};

/// The longest text that is read.
pub const MAX_LEN_BYTES: usize = 256 << 20;
const MAX_DIM_DEPTH: u32 = 64;

pub(super) type Result<T> = std::result::Result<T, ParseError>;

pub(super) struct GraphSyntax {
    pub(super) name: String,
    pub(super) frozen: bool,
    pub(super) inputs: Vec<(Position, String, TensorType)>,
    pub(super) statements: Vec<Statement>,
    pub(super) outputs: Vec<OutputSyntax>,
}

pub(super) struct OutputSyntax {
    pub(super) at: Position,
    pub(super) value: String,
    pub(super) name: Option<String>,
}

pub(super) enum Statement {
    Meta(Position, String, String),
    Const { at: Position, name: String, trainable: bool, ty: TensorType, data: Data },
    Node(NodeSyntax),
}

pub(super) struct NodeSyntax {
    pub(super) at: Position,
    pub(super) outputs: Vec<String>,
    pub(super) op: String,
    pub(super) inputs: Vec<(Position, Option<String>)>,
    pub(super) attrs: Vec<NamedAttr>,
    pub(super) types: Option<Vec<TensorType>>,
    pub(super) origin: Vec<String>,
}

pub(super) type NamedAttr = (Position, String, AttrSyntax);

pub(super) enum AttrSyntax {
    Bool(bool),
    Int(i64),
    Float(f32),
    Str(String),
    List(Vec<ListItem>),
    Tensor(TensorType, Data),
    Netlist(Netlist),
    PackedNetlist(u32),
}

pub(super) enum ListItem {
    Number(String),
    Str(String),
    Dim(Dim),
}

pub(super) enum Data {
    Ready(Tensor),
    Elsewhere(Reference),
}

pub(super) fn parse(text: &str) -> Result<GraphSyntax> {
    whole(text, Parser::graph)
}

pub(super) fn parse_attrs(text: &str) -> Result<Vec<NamedAttr>> {
    whole(text, Parser::attrs)
}

/// What `read` makes of a text, which must have nothing behind it.
fn whole<'a, T>(text: &'a str, read: impl FnOnce(&mut Parser<'a>) -> Result<T>) -> Result<T> {
    if text.len() > MAX_LEN_BYTES {
        let message = format!("the text has {} bytes; at most {MAX_LEN_BYTES} are read", text.len());
        return Err(ParseError { at: Position { line: 1, column: 1 }, message });
    }
    let mut parser = Parser::new(text)?;
    let syntax = read(&mut parser)?;
    match parser.token {
        Token::End => Ok(syntax),
        _ => Err(parser.unexpected("the end of the text")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    at: Position,
    token: Token,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let mut lexer = Lexer::new(text);
        let (at, token) = lexer.next()?;
        Ok(Self { lexer, at, token })
    }

    fn bump(&mut self) -> Result<Token> {
        let (at, token) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(ParseError { at: self.at, message: message.into() })
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        ParseError { at: self.at, message: format!("expected {expected}, found {}", self.token.describe()) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Ident(w) if w == word)
    }

    fn eat_word(&mut self, word: &str) -> Result<bool> {
        let found = self.is_word(word);
        if found {
            self.bump()?;
        }
        Ok(found)
    }

    fn eat(&mut self, c: char) -> Result<bool> {
        let found = self.token == Token::Punct(c);
        if found {
            self.bump()?;
        }
        Ok(found)
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.eat(c)? { Ok(()) } else { Err(self.unexpected(&format!("`{c}`"))) }
    }

    fn ident(&mut self, what: &str) -> Result<String> {
        match &self.token {
            Token::Ident(_) => match self.bump()? {
                Token::Ident(name) => Ok(name),
                _ => Err(self.unexpected(what)),
            },
            _ => Err(self.unexpected(what)),
        }
    }

    fn value(&mut self) -> Result<String> {
        let Token::Value(name) = self.token.clone() else { return Err(self.unexpected("a value such as `%x`")) };
        self.bump()?;
        Ok(name)
    }

    fn string(&mut self) -> Result<String> {
        let Token::Str(text) = self.token.clone() else { return Err(self.unexpected("a string")) };
        self.bump()?;
        Ok(text)
    }

    /// Items between two signs, separated by commas; a comma after the last is fine.
    fn list<T>(&mut self, open: char, close: char, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.eat(close)? {
            items.push(item(self)?);
            if !self.eat(',')? && self.token != Token::Punct(close) {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
        Ok(items)
    }

    fn graph(&mut self) -> Result<GraphSyntax> {
        let frozen = self.eat_word("frozen")?;
        if !self.eat_word("graph")? {
            return Err(self.unexpected("`graph`"));
        }
        let Token::Global(name) = self.token.clone() else { return Err(self.unexpected("a name such as `@model`")) };
        self.bump()?;
        let inputs = self.list('(', ')', |p| {
            let (at, name) = (p.at, p.value()?);
            p.expect(':')?;
            Ok((at, name, p.ty()?))
        })?;
        self.expect('{')?;
        let mut statements = Vec::new();
        while !self.is_word("return") {
            statements.push(self.statement()?);
        }
        self.bump()?;
        let outputs = self.outputs()?;
        self.expect('}')?;
        Ok(GraphSyntax { name, frozen, inputs, statements, outputs })
    }

    fn outputs(&mut self) -> Result<Vec<OutputSyntax>> {
        let mut outputs = Vec::new();
        while let Token::Value(_) = self.token {
            let (at, value) = (self.at, self.value()?);
            let name = if self.eat_word("as")? { Some(self.string()?) } else { None };
            outputs.push(OutputSyntax { at, value, name });
            if !self.eat(',')? {
                break;
            }
        }
        Ok(outputs)
    }

    fn statement(&mut self) -> Result<Statement> {
        let at = self.at;
        if self.eat_word("meta")? {
            let key = self.string()?;
            self.expect('=')?;
            return Ok(Statement::Meta(at, key, self.string()?));
        }
        let trainable = self.is_word("param");
        if trainable || self.is_word("const") {
            self.bump()?;
            let name = self.value()?;
            self.expect(':')?;
            let ty = self.ty()?;
            self.expect('=')?;
            let data = self.data(&ty)?;
            return Ok(Statement::Const { at, name, trainable, ty, data });
        }
        if let Token::Value(_) = self.token {
            return Ok(Statement::Node(self.node()?));
        }
        Err(self.unexpected("a statement: `const`, `param`, `meta`, `%name = op(..)` or `return`"))
    }

    fn node(&mut self) -> Result<NodeSyntax> {
        let at = self.at;
        let mut outputs = vec![self.value()?];
        while self.eat(',')? {
            outputs.push(self.value()?);
        }
        self.expect('=')?;
        let op = self.ident("an operation")?;
        let inputs = self.list('(', ')', |p| {
            let at = p.at;
            if p.eat_word("_")? { Ok((at, None)) } else { Ok((at, Some(p.value()?))) }
        })?;
        let attrs = if self.token == Token::Punct('{') { self.attrs()? } else { Vec::new() };
        let mut types = None;
        if self.eat(':')? {
            let mut list = vec![self.ty()?];
            while self.eat(',')? {
                list.push(self.ty()?);
            }
            types = Some(list);
        }
        let mut origin = Vec::new();
        if self.eat_word("from")? {
            origin.push(self.string()?);
            while self.eat(',')? {
                origin.push(self.string()?);
            }
        }
        Ok(NodeSyntax { at, outputs, op, inputs, attrs, types, origin })
    }

    fn attrs(&mut self) -> Result<Vec<NamedAttr>> {
        self.list('{', '}', |p| {
            let (at, name) = (p.at, p.ident("an attribute name")?);
            p.expect('=')?;
            Ok((at, name, p.attr()?))
        })
    }

    fn ty(&mut self) -> Result<TensorType> {
        let at = self.at;
        let name = self.ident("an element type")?;
        let Some(dtype) = DType::from_name(&name) else {
            return Err(ParseError { at, message: format!("no element type is called `{name}`") });
        };
        let dims = if self.token == Token::Punct('[') { self.list('[', ']', Self::dim_of_type)? } else { Vec::new() };
        Ok(TensorType::new(dtype, Shape(dims)))
    }

    fn dim_of_type(&mut self) -> Result<Dim> {
        let at = self.at;
        let dim = self.dim(0)?;
        match dim.view() {
            DimView::Const(n) if n < 0 => {
                Err(ParseError { at, message: format!("a dimension is not negative, found {n}") })
            }
            _ => Ok(dim),
        }
    }

    /// `term (('+' | '-') term)*` with `term = factor ('*' factor)* ('/' number)?`.
    fn dim(&mut self, depth: u32) -> Result<Dim> {
        if depth > MAX_DIM_DEPTH {
            return self.error("this dimension is nested too deeply");
        }
        let too_large = |p: &Self| ParseError { at: p.at, message: "this dimension is too large".to_owned() };
        let mut sum = Dim::from(0);
        let mut negative = self.eat('-')?;
        loop {
            let mut product = self.dim_factor(depth)?;
            loop {
                if self.eat('*')? {
                    product = product.mul(&self.dim_factor(depth)?).ok_or_else(|| too_large(self))?;
                } else if self.eat('/')? {
                    let divisor = self.size()?;
                    product = product.floor_div(divisor).ok_or_else(|| too_large(self))?;
                } else {
                    break;
                }
            }
            let next = if negative { sum.sub(&product) } else { sum.add(&product) };
            sum = next.ok_or_else(|| too_large(self))?;
            negative = self.eat('-')?;
            if !negative && !self.eat('+')? {
                return Ok(sum);
            }
        }
    }

    fn dim_factor(&mut self, depth: u32) -> Result<Dim> {
        if self.eat('(')? {
            let dim = self.dim(depth + 1)?;
            self.expect(')')?;
            return Ok(dim);
        }
        match &self.token {
            Token::Number(_) => {
                let n = self.size()?;
                if i64::try_from(n).is_err() { self.error("this dimension is too large") } else { Ok(Dim::from(n)) }
            }
            Token::Ident(_) => Ok(Dim::symbol(self.ident("a dimension")?)),
            Token::Global(_) => match self.bump()? {
                Token::Global(name) => Ok(Dim::symbol(name)),
                _ => Err(self.unexpected("a dimension")),
            },
            _ => Err(self.unexpected("a dimension")),
        }
    }

    fn size(&mut self) -> Result<usize> {
        let Token::Number(text) = &self.token else { return Err(self.unexpected("a number")) };
        let Ok(n) = text.parse() else { return self.error(format!("`{text}` is not a size")) };
        self.bump()?;
        Ok(n)
    }

    fn number(&mut self) -> Result<String> {
        let sign = if self.eat('-')? { "-" } else { "" };
        match &self.token {
            Token::Number(text) => {
                let text = format!("{sign}{text}");
                self.bump()?;
                Ok(text)
            }
            Token::Ident(word) if word == "inf" || word == "nan" => {
                let text = format!("{sign}{word}");
                self.bump()?;
                Ok(text)
            }
            _ => Err(self.unexpected("a number")),
        }
    }

    fn attr(&mut self) -> Result<AttrSyntax> {
        match &self.token {
            Token::Str(_) => Ok(AttrSyntax::Str(self.string()?)),
            Token::Ident(w) if w == "true" || w == "false" => {
                let value = w == "true";
                self.bump()?;
                Ok(AttrSyntax::Bool(value))
            }
            Token::Ident(w) if w == "tensor" => {
                self.bump()?;
                let ty = self.ty()?;
                let data = self.data(&ty)?;
                Ok(AttrSyntax::Tensor(ty, data))
            }
            Token::Ident(w) if w == "netlist" => {
                self.bump()?;
                self.netlist()
            }
            Token::Punct('[') => Ok(AttrSyntax::List(self.list('[', ']', Self::list_item)?)),
            _ => {
                let at = self.at;
                let text = self.number()?;
                if let Ok(n) = text.parse::<i64>() {
                    return Ok(AttrSyntax::Int(n));
                }
                let float =
                    text.parse().map_err(|_| ParseError { at, message: format!("`{text}` is not a number") })?;
                Ok(AttrSyntax::Float(float))
            }
        }
    }

    /// What follows `netlist`: its text between triple quotes, or `packed(index)`.
    fn netlist(&mut self) -> Result<AttrSyntax> {
        let at = self.at;
        if self.eat_word("packed")? {
            return Ok(AttrSyntax::PackedNetlist(self.packed_index()?));
        }
        let text = self.string()?;
        let netlist = text
            .parse()
            .map_err(|e: crate::netlist::ParseError| ParseError { at, message: format!("netlist, {e}") })?;
        Ok(AttrSyntax::Netlist(netlist))
    }

    fn packed_index(&mut self) -> Result<u32> {
        let at = self.at;
        self.expect('(')?;
        let too_large = |_| ParseError { at, message: "this index is too large".to_owned() };
        let index = u32::try_from(self.size()?).map_err(too_large)?;
        self.expect(')')?;
        Ok(index)
    }

    fn list_item(&mut self) -> Result<ListItem> {
        match &self.token {
            Token::Str(_) => Ok(ListItem::Str(self.string()?)),
            Token::Number(t) if t.contains(['.', 'e', 'E']) => Ok(ListItem::Number(self.number()?)),
            Token::Ident(w) if w == "inf" || w == "nan" => Ok(ListItem::Number(self.number()?)),
            Token::Punct('-') => Ok(ListItem::Number(self.number()?)),
            _ => {
                let dim = self.dim(0)?;
                Ok(dim.as_const().map_or_else(|| ListItem::Dim(dim), |n| ListItem::Number(n.to_string())))
            }
        }
    }

    fn data(&mut self, ty: &TensorType) -> Result<Data> {
        let at = self.at;
        let how = self.ident("`dense`, `splat`, `random`, `hex`, `file` or `packed`")?;
        if how == "elided" {
            return Err(ParseError {
                at,
                message: "this constant was left out when the text was printed; print it in full".to_owned(),
            });
        }
        let Some(dims) = ty.shape.to_fixed() else {
            return Err(ParseError { at, message: format!("a constant needs fixed dimensions, found {ty}") });
        };
        let bad = |message: String| ParseError { at, message };
        match how.as_str() {
            "dense" => {
                let items = self.list('[', ']', Self::number)?;
                let tensor = from_numbers(ty.dtype, &dims, &items).map_err(bad)?;
                Ok(Data::Ready(tensor))
            }
            "splat" => {
                self.expect('(')?;
                let item = self.number()?;
                self.expect(')')?;
                let n = generated_len(&dims).map_err(bad)?;
                let one = from_numbers(ty.dtype, &[], &[item]).map_err(bad)?;
                let bytes = one.bytes().repeat(n);
                let tensor = Tensor::from_blob(ty.dtype, &dims, crate::Blob::new(bytes));
                Ok(Data::Ready(tensor.map_err(|e| bad(e.to_string()))?))
            }
            "random" => {
                self.expect('(')?;
                if !self.eat_word("seed")? {
                    return Err(self.unexpected("`seed`"));
                }
                self.expect('=')?;
                let seed = self.size()?;
                self.expect(')')?;
                generated_len(&dims).map_err(bad)?;
                Ok(Data::Ready(crate::random::tensor(ty.dtype, &dims, seed as u64)))
            }
            "hex" => {
                let text = self.string()?;
                let bytes =
                    decode_hex(&text).ok_or_else(|| bad("`hex` takes pairs of hexadecimal digits".to_owned()))?;
                let tensor = Tensor::from_blob(ty.dtype, &dims, crate::Blob::new(bytes));
                Ok(Data::Ready(tensor.map_err(|e| bad(e.to_string()))?))
            }
            "file" => {
                self.expect('(')?;
                let path = self.string()?;
                self.expect(',')?;
                let offset = self.size()? as u64;
                self.expect(',')?;
                let len = self.size()? as u64;
                self.expect(')')?;
                Ok(Data::Elsewhere(Reference::File { path, offset, len }))
            }
            "packed" => Ok(Data::Elsewhere(Reference::Packed(self.packed_index()?))),
            other => Err(bad(format!("`{other}` is not a way to write a constant"))),
        }
    }
}
