#include "bench/cuda/report.h"

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace himap::bench {
namespace {

std::string quoted(const std::string& text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') json += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) json += c;
    else json += ' ';
  }
  return json + "\"";
}

std::string printed(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

}  // namespace

Cell words(const std::string& text) { return {text, quoted(text)}; }

Cell number(double value, int digits) {
  if (!std::isfinite(value)) return none();
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return {text, printed("%.9g", value)};
}

Cell share(double value) {
  if (!std::isfinite(value)) return none();
  return {printed("%.0f %%", 100 * value), printed("%.6g", value)};
}

Cell hash_text(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "%016" PRIx64, value);
  return {std::string("`") + text + "`", quoted(text)};
}

Cell none() { return {"-", "null"}; }

std::string Table::markdown() const {
  std::string text = "\n### " + title_ + "\n\n|";
  for (const Column& column : columns_) text += " " + column.heading + " |";
  text += "\n|";
  for (size_t c = 0; c < columns_.size(); ++c) text += c == 0 ? " --- |" : " ---: |";
  text += "\n";
  for (const std::vector<Cell>& row : rows_) {
    text += "|";
    for (const Cell& cell : row) text += " " + cell.text + " |";
    text += "\n";
  }
  for (const std::string& line : notes_) text += "\n" + line + "\n";
  return text;
}

std::string Table::json() const {
  std::string text = "  " + quoted(key_) + ": {\n    \"title\": " + quoted(title_) + ",\n    \"rows\": [";
  for (size_t r = 0; r < rows_.size(); ++r) {
    text += r ? ",\n      {" : "\n      {";
    for (size_t c = 0; c < columns_.size(); ++c) text += (c ? ", " : "") + quoted(columns_[c].key) + ": " + rows_[r][c].json;
    text += "}";
  }
  text += "\n    ],\n    \"notes\": [";
  for (size_t n = 0; n < notes_.size(); ++n) text += (n ? ", " : "") + quoted(notes_[n]);
  return text + "]\n  }";
}

void Report::fact(const std::string& key, const Cell& value) { facts_.emplace_back(key, value); }

void Report::finish(const Table& table) {
  std::printf("%s", table.markdown().c_str());
  std::fflush(stdout);
  tables_.push_back(table.json());
  write();
}

void Report::write() const {
  if (path_.empty()) return;
  const std::string unfinished = path_ + ".part";
  {
    std::ofstream file(unfinished);
    file << "{\n";
    for (const auto& [key, value] : facts_) file << "  " << quoted(key) << ": " << value.json << ",\n";
    for (size_t t = 0; t < tables_.size(); ++t) file << tables_[t] << (t + 1 < tables_.size() ? ",\n" : "\n");
    file << "}\n";
    if (!file.flush()) throw std::runtime_error("the results could not be written to " + unfinished);
  }
  if (std::rename(unfinished.c_str(), path_.c_str()) != 0) {
    throw std::runtime_error("the results could not be written to " + path_);
  }
}

}  // namespace himap::bench
