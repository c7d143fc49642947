package safescale.airgap;

import java.io.IOException;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Supplier;
import java.util.regex.Pattern;

import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.CharArraySet;
import org.apache.lucene.analysis.TokenFilter;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.core.WhitespaceTokenizer;
import org.apache.lucene.analysis.de.GermanAnalyzer;
import org.apache.lucene.analysis.email.UAX29URLEmailTokenizer;
import org.apache.lucene.analysis.en.EnglishAnalyzer;
import org.apache.lucene.analysis.en.EnglishPossessiveFilter;
import org.apache.lucene.analysis.en.PorterStemFilter;
import org.apache.lucene.analysis.es.SpanishAnalyzer;
import org.apache.lucene.analysis.fr.FrenchAnalyzer;
import org.apache.lucene.analysis.it.ItalianAnalyzer;
import org.apache.lucene.analysis.miscellaneous.ASCIIFoldingFilter;
import org.apache.lucene.analysis.miscellaneous.LengthFilter;
import org.apache.lucene.analysis.miscellaneous.RemoveDuplicatesTokenFilter;
import org.apache.lucene.analysis.miscellaneous.TrimFilter;
import org.apache.lucene.analysis.pattern.PatternCaptureGroupTokenFilter;
import org.apache.lucene.analysis.pt.PortugueseAnalyzer;
import org.apache.lucene.analysis.snowball.SnowballFilter;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.analysis.tokenattributes.PositionIncrementAttribute;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.index.IndexSettings;
import org.elasticsearch.index.analysis.AbstractIndexAnalyzerProvider;
import org.elasticsearch.index.analysis.AbstractTokenFilterFactory;
import org.elasticsearch.index.analysis.AnalyzerProvider;
import org.elasticsearch.index.analysis.TokenFilterFactory;
import org.elasticsearch.index.analysis.TokenizerFactory;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.elasticsearch.plugins.Plugin;

/** Analyzers of languages and common token filters, over the Lucene classes of the module that is not published. */
public final class AnalysisPlugin extends Plugin implements org.elasticsearch.plugins.AnalysisPlugin {

    @Override
    public Map<String, AnalysisProvider<AnalyzerProvider<? extends Analyzer>>> getAnalyzers() {
        Map<String, AnalysisProvider<AnalyzerProvider<? extends Analyzer>>> found = new HashMap<>();
        found.put("english", language(EnglishAnalyzer::new));
        found.put("french", language(FrenchAnalyzer::new));
        found.put("german", language(GermanAnalyzer::new));
        found.put("italian", language(ItalianAnalyzer::new));
        found.put("portuguese", language(PortugueseAnalyzer::new));
        found.put("spanish", language(SpanishAnalyzer::new));
        return found;
    }

    @Override
    public Map<String, AnalysisProvider<TokenizerFactory>> getTokenizers() {
        return Map.of(
            // The index of users' profiles, made with the first API key, needs it.
            "uax_url_email", (index, environment, name, settings) -> TokenizerFactory.newFactory(name, UAX29URLEmailTokenizer::new),
            "whitespace", (index, environment, name, settings) -> TokenizerFactory.newFactory(name, WhitespaceTokenizer::new));
    }

    @Override
    public Map<String, AnalysisProvider<TokenFilterFactory>> getTokenFilters() {
        Map<String, AnalysisProvider<TokenFilterFactory>> found = new HashMap<>();
        found.put("asciifolding", each((in, options) -> new ASCIIFoldingFilter(in, options.getAsBoolean("preserve_original", false))));
        found.put("length", each((in, options) -> new LengthFilter(in, options.getAsInt("min", 0), options.getAsInt("max", Integer.MAX_VALUE))));
        found.put("pattern_capture", org.elasticsearch.plugins.AnalysisPlugin.requiresAnalysisSettings(each(AnalysisPlugin::captured)));
        found.put("porter_stem", each((in, options) -> new PorterStemFilter(in)));
        found.put("possessive_english", each((in, options) -> new EnglishPossessiveFilter(in)));
        found.put("remove_duplicates", each((in, options) -> new RemoveDuplicatesTokenFilter(in)));
        found.put("snowball", each((in, options) -> new SnowballFilter(in, options.get("language", "English"))));
        found.put("trim", each((in, options) -> new TrimFilter(in)));
        found.put("unique", each((in, options) -> new Unique(in)));
        return found;
    }

    private static TokenStream captured(TokenStream in, Settings options) {
        Pattern[] patterns = options.getAsList("patterns").stream().map(Pattern::compile).toArray(Pattern[]::new);
        return new PatternCaptureGroupTokenFilter(in, options.getAsBoolean("preserve_original", true), patterns);
    }

    private static AnalysisProvider<AnalyzerProvider<? extends Analyzer>> language(Supplier<Analyzer> make) {
        return (index, environment, name, settings) -> new Language(name, make.get());
    }

    private static AnalysisProvider<TokenFilterFactory> each(Wrap wrap) {
        return (IndexSettings index, Environment environment, String name, Settings settings) -> new Filter(name, settings, wrap);
    }

    @FunctionalInterface
    private interface Wrap {
        TokenStream around(TokenStream in, Settings options);
    }

    /** Lets the first of equal tokens of a stream pass. */
    private static final class Unique extends TokenFilter {
        private final CharTermAttribute term = addAttribute(CharTermAttribute.class);
        private final PositionIncrementAttribute position = addAttribute(PositionIncrementAttribute.class);
        private final CharArraySet seen = new CharArraySet(16, false);

        Unique(TokenStream in) {
            super(in);
        }

        @Override
        public boolean incrementToken() throws IOException {
            int skipped = 0;
            while (input.incrementToken()) {
                if (seen.add(term.toString())) {
                    position.setPositionIncrement(position.getPositionIncrement() + skipped);
                    return true;
                }
                skipped += position.getPositionIncrement();
            }
            return false;
        }

        @Override
        public void reset() throws IOException {
            super.reset();
            seen.clear();
        }
    }

    private static final class Language extends AbstractIndexAnalyzerProvider<Analyzer> {
        private final Analyzer analyzer;

        Language(String name, Analyzer analyzer) {
            super(name);
            this.analyzer = analyzer;
        }

        @Override
        public Analyzer get() {
            return analyzer;
        }
    }

    private static final class Filter extends AbstractTokenFilterFactory {
        private final Settings options;
        private final Wrap wrap;

        Filter(String name, Settings options, Wrap wrap) {
            super(name);
            this.options = options;
            this.wrap = wrap;
        }

        @Override
        public TokenStream create(TokenStream in) {
            return wrap.around(in, options);
        }
    }
}
