"""From labelled catalog to promoted model. Never imports Beam."""
