// SPDX-License-Identifier: Apache-2.0
// Filters the cards by what the address says after #, so that a view can be linked to and
// Back undoes a choice. The controls only change the address.
"use strict";
(() => {
  const form = document.querySelector("form");
  const cards = [...document.querySelectorAll("article")];
  const [show, name, as] = ["show", "class", "as"].map((key) => form.elements.namedItem(key));
  const controls = { show, class: name, as };
  const verdicts = { mistakes: "wrong", right: "right" };

  function matches(card) {
    const { verdict, label, predicted } = card.dataset;
    const wanted = String(name.selectedIndex - 1);
    return (show.value === "all" || verdict === verdicts[show.value])
      && (wanted === "-1"
        || (as.value !== "predicted" && label === wanted)
        || (as.value !== "true" && predicted.split(" ").includes(wanted)));
  }

  function apply() {
    let shown = 0;
    for (const card of cards) {
      card.hidden = !matches(card);
      shown += !card.hidden;
    }
    document.getElementById("count").textContent = `${shown} of ${cards.length} shown`;
    document.getElementById("clear").hidden = shown === cards.length;
  }

  function restore() {
    form.reset();
    for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
      const control = Object.hasOwn(controls, key) ? controls[key] : { value };
      const before = control.value;
      control.value = value;
      if (control.value !== value) control.value = before;
    }
    apply();
  }

  function remember() {
    const state = new URLSearchParams({ show: show.value });
    if (name.selectedIndex > 0) state.set("class", name.value);
    if (as.value !== "either") state.set("as", as.value);
    location.hash = state;
  }

  form.addEventListener("change", remember);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", () => {
    form.reset();
    remember();
    form.querySelector("input").focus(); // the button is about to go
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // what comes after # is the filter
    document.getElementById("queries").focus();
  });
  addEventListener("hashchange", restore);
  form.hidden = false;
  restore();
})();
