// renderer CHART [-f VALUES]... renders a Helm chart to standard output, as `helm template` would, as far as ours goes.
//
// It is Helm's template language, by the same two libraries (text/template and sprig), and Helm's own functions. Not here, since
// the chart does without: subcharts, hooks, --set, lookup; ../check looks after values.schema.json. Debian has no Helm.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

// Of the chart, by path within it: .Files.
type files map[string]string

func (f files) Get(name string) string { return f[name] }

func (f files) Glob(pattern string) files {
	found := files{}
	for name, text := range f {
		if ok, _ := path.Match(pattern, name); ok {
			found[name] = text
		}
	}
	return found
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "renderer:", err)
		os.Exit(1)
	}
}

func parse(text []byte) object {
	parsed := object{}
	must(yaml.Unmarshal(text, &parsed))
	return parsed
}

// What `over` says wins; a null removes; maps are merged, lists are not.
func merge(base, over object) object {
	for key, value := range over {
		below, isMap := value.(object)
		before, wasMap := base[key].(object)
		switch {
		case value == nil:
			delete(base, key)
		case isMap && wasMap:
			merge(before, below)
		default:
			base[key] = value
		}
	}
	return base
}

func readChart(folder string) files {
	chart := files{}
	must(filepath.Walk(folder, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		relative, _ := filepath.Rel(folder, name)
		chart[relative] = string(text)
		return err
	}))
	return chart
}

// Helm's functions beyond sprig's. `templates` is complete only after they have been added.
func functions(templates *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	// Helm takes these out: a chart must not depend on who renders it.
	delete(all, "env")
	delete(all, "expandenv")
	all["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := templates.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	all["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	all["fromYaml"] = func(text string) (object, error) {
		value := object{}
		err := yaml.Unmarshal([]byte(text), &value)
		return value, err
	}
	all["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	return all
}

func main() {
	name := flag.String("name", "weir", "the release's name")
	namespace := flag.String("namespace", "weir", "the release's namespace")
	var over []string
	flag.Func("f", "a file of values; may be repeated", func(path string) error {
		over = append(over, path)
		return nil
	})
	flag.Parse()
	if flag.NArg() != 1 {
		must(errors.New("give one folder, the chart's, after the flags"))
	}

	chart := readChart(flag.Arg(0))
	values := parse([]byte(chart["values.yaml"]))
	for _, path := range over {
		text, err := os.ReadFile(path)
		must(err)
		merge(values, parse(text))
	}
	meta := object{}
	for key, value := range parse([]byte(chart["Chart.yaml"])) {
		meta[strings.ToUpper(key[:1])+key[1:]] = value
	}
	data := object{"Values": values, "Chart": meta, "Files": chart,
		"Release": object{"Name": *name, "Namespace": *namespace, "Service": "Helm"}}

	// A value that is not there is an error, where Helm would print "<no value>".
	templates := template.New("").Option("missingkey=error")
	templates.Funcs(functions(templates))
	var names []string
	for name, text := range chart {
		if strings.HasPrefix(name, "templates/") {
			_, err := templates.New(name).Parse(text)
			must(err)
			if !strings.HasPrefix(path.Base(name), "_") && path.Base(name) != "NOTES.txt" {
				names = append(names, name)
			}
		}
	}
	sort.Strings(names)
	for _, name := range names {
		var out bytes.Buffer
		must(templates.ExecuteTemplate(&out, name, data))
		if text := strings.TrimSpace(out.String()); text != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, strings.TrimPrefix(text, "---\n"))
		}
	}
}
