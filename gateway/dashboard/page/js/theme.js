/** Light, dark, or as the system has it. Loaded before the first paint, so that the page does not flash. */

const KEY = "gateway.theme";
const ORDER = ["system", "light", "dark"];
const SPOKEN = { system: "as the system", light: "light", dark: "dark" };

function stored() {
  try {
    const value = localStorage.getItem(KEY) ?? "system";
    return ORDER.includes(value) ? value : "system";
  } catch {
    return "system"; // storage is denied in some private windows
  }
}

function show(theme) {
  document.documentElement.dataset.theme = theme;
}

/** Makes `button` go round the three. */
export function themeButton(button) {
  let theme = stored();
  const label = () => {
    button.ariaLabel = button.title = `Colours: ${SPOKEN[theme]}`;
  };
  label();
  button.addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // it then lasts as long as the page
    }
    show(theme);
    label();
  });
}

show(stored());
