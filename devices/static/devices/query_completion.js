// Suggests field names and values in the search field of the list of devices. Without this script, the field is a plain
// search field.
"use strict";

const TYPING_PAUSE = 150; // milliseconds

class QueryCompletion {
  constructor(input, url) {
    this.input = input;
    this.url = url;
    this.start = 0;
    this.active = -1;
    this.request = null;
    this.list = document.createElement("ul");
    this.list.id = "kx-suggestions";
    this.list.hidden = true;
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Suggestions");
    input.parentElement.append(this.list);
    for (const [name, value] of Object.entries({
      role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": this.list.id,
    })) input.setAttribute(name, value);
    input.autocomplete = "off";
    input.addEventListener("input", () => this.askSoon(false));
    input.addEventListener("keydown", (event) => this.press(event));
    input.addEventListener("blur", () => this.close());
    // The field keeps the focus while an option is clicked.
    this.list.addEventListener("mousedown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("li");
      if (option) this.accept(option);
    });
  }

  get isOpen() { return !this.list.hidden; }

  askSoon(isAskedFor) {
    clearTimeout(this.timer);
    this.request?.abort();
    this.timer = setTimeout(() => this.ask(isAskedFor), isAskedFor ? 0 : TYPING_PAUSE);
  }

  async ask(isAskedFor) {
    const { value, selectionStart } = this.input;
    this.request = new AbortController();
    let completion;
    try {
      const query = new URLSearchParams({ text: value.slice(0, selectionStart) });
      const response = await fetch(`${this.url}?${query}`, { redirect: "error", signal: this.request.signal });
      if (!response.ok) throw new Error(response.statusText);
      completion = await response.json();
    } catch {
      this.close(); // a newer request follows, or the search goes on without suggestions
      return;
    }
    if (value !== this.input.value || document.activeElement !== this.input) return;
    // All fields are shown only if somebody asks for them.
    const isUseful = completion.is_value || completion.start < selectionStart || isAskedFor;
    this.show(completion.start, isUseful ? completion.suggestions : []);
  }

  show(start, suggestions) {
    this.start = start;
    this.list.replaceChildren(...suggestions.map((suggestion, number) => {
      const option = document.createElement("li");
      const text = document.createElement("strong");
      const hint = document.createElement("span");
      option.id = `kx-suggestion-${number}`;
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      option.dataset.text = suggestion.text;
      text.textContent = suggestion.text;
      hint.textContent = suggestion.hint;
      option.append(text, hint);
      return option;
    }));
    this.list.hidden = suggestions.length === 0;
    this.input.setAttribute("aria-expanded", String(this.isOpen));
    this.activate(-1);
  }

  close() {
    clearTimeout(this.timer);
    this.show(0, []);
  }

  activate(number) {
    const options = [...this.list.children];
    this.active = number;
    options.forEach((option, each) => option.setAttribute("aria-selected", String(each === number)));
    if (number < 0) {
      this.input.removeAttribute("aria-activedescendant");
      return;
    }
    this.input.setAttribute("aria-activedescendant", options[number].id);
    options[number].scrollIntoView({ block: "nearest" });
  }

  press(event) {
    const count = this.list.children.length;
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!this.isOpen) this.askSoon(true);
      else if (event.key === "ArrowDown") this.activate((this.active + 1) % count);
      else this.activate((this.active < 1 ? count : this.active) - 1);
    } else if (event.key === "Escape" && this.isOpen) {
      event.preventDefault();
      event.stopPropagation();
      this.close();
    } else if ((event.key === "Enter" || event.key === "Tab") && this.isOpen && this.active >= 0) {
      event.preventDefault();
      this.accept(this.list.children[this.active]);
    }
  }

  accept(option) {
    const text = option.dataset.text;
    const { value, selectionStart } = this.input;
    const inserted = text.endsWith(".") ? text : `${text} `;
    const after = value.slice(selectionStart).replace(/^[^\s()",=!<>~]*\s?/, "");
    this.input.value = value.slice(0, this.start) + inserted + after;
    const position = this.start + inserted.length;
    this.input.setSelectionRange(position, position);
    this.close();
    if (text.endsWith(".")) this.askSoon(true);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const input = document.getElementById("searchbar");
  const completion = document.getElementById("kx-completion");
  if (input && completion) new QueryCompletion(input, completion.dataset.url);
});
